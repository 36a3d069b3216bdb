"""Sampling: from noise to images, with diffusers' EDM schedulers."""

from typing import Any

import torch
from diffusers import EDMDPMSolverMultistepScheduler, EDMEulerScheduler
from torch import Tensor

from plugins.balancing.edm import SIGMA_DATA
from plugins.balancing.network import ConditionalUNet
from plugins.config import check_value

SCHEDULERS: dict[str, Any] = {"euler": EDMEulerScheduler, "dpm": EDMDPMSolverMultistepScheduler}
SIGMA_MIN, SIGMA_MAX, RHO = 0.002, 80.0, 7.0  # table 1 of EDM


@torch.no_grad()
def sample(
    network: ConditionalUNet,
    noise: Tensor,
    people: Tensor,
    cameras: Tensor,
    *,
    scheduler: str = "euler",
    steps: int = 18,
    guidance: float = 1.0,
) -> Tensor:
    """Follow the probability flow from sigma = 80 to 0.

    Args:
        network: F, in evaluation mode.
        noise: (B, 3, H, W) with standard deviation 1.
        people: (B,) int64 labels.
        cameras: (B,) int64 labels.
        scheduler: "euler", or "dpm" for DPM-Solver++ multistep.
        steps: evaluations of D.
        guidance: g in D_unknown + g (D - D_unknown); 1 is the plain conditional model.

    Returns:
        (B, 3, H, W), about [-1, 1].

    Raises:
        InputError: no scheduler has that name.
    """
    check_value("DATASETS.BALANCE.GENERATOR.SCHEDULER", scheduler)
    path = SCHEDULERS[scheduler](
        sigma_min=SIGMA_MIN, sigma_max=SIGMA_MAX, sigma_data=SIGMA_DATA, rho=RHO
    )
    path.set_timesteps(steps)
    # diffusers' init_noise_sigma is sqrt(80^2 + 1); the paper starts at 80.
    images = SIGMA_MAX * noise
    for timestep in path.timesteps:  # each is already c_noise
        scaled = path.scale_model_input(images, timestep)
        level = timestep.to(noise.device).expand(len(noise))
        # D is linear in F, so guiding F guides D.
        output = network(scaled, level, people, cameras)
        if guidance != 1:
            unknown = (
                torch.full_like(people, network.people),
                torch.full_like(cameras, network.cameras),
            )
            output = torch.lerp(network(scaled, level, *unknown), output, guidance)
        images = path.step(output, timestep, images).prev_sample
    return images
