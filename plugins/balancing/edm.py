"""EDM: preconditioning, loss and noise levels of the diffusion model.

Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models", 2022. Legend: B
images of a batch, sigma the standard deviation of the noise. Images are in [-1, 1]. A network is a
callable F(scaled images, c_noise, people, cameras) -> (B, 3, H, W).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

SIGMA_DATA = 0.5
LOG_SIGMA_MEAN, LOG_SIGMA_STD = -1.2, 1.2  # P_mean, P_std of table 1

Network = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


class Scalings(NamedTuple):
    """The factors of the preconditioning (table 1), each in the shape of sigma."""

    skip: Tensor
    out: Tensor
    into: Tensor
    noise: Tensor


def scalings(sigma: Tensor) -> Scalings:
    """Compute c_skip, c_out, c_in and c_noise for noise of ``sigma`` > 0."""
    total = sigma**2 + SIGMA_DATA**2
    return Scalings(
        skip=SIGMA_DATA**2 / total,
        out=sigma * SIGMA_DATA / total.sqrt(),
        into=1 / total.sqrt(),
        noise=sigma.log() / 4,
    )


def denoise(
    network: Network, noisy: Tensor, sigma: Tensor, people: Tensor, cameras: Tensor
) -> Tensor:
    """Compute D(x; sigma) = c_skip x + c_out F(c_in x; c_noise), equation 7.

    Args:
        network: F.
        noisy: (B, 3, H, W).
        sigma: (B,).
        people: (B,) int64 labels.
        cameras: (B,) int64 labels.

    Returns:
        (B, 3, H, W), the expected clean images.
    """
    skip, out, into, noise = scalings(sigma)
    skip, out, into = (factor[:, None, None, None] for factor in (skip, out, into))
    return skip * noisy + out * network(into * noisy, noise, people, cameras)


def denoising_loss(
    network: Network,
    images: Tensor,
    noise: Tensor,
    sigma: Tensor,
    people: Tensor,
    cameras: Tensor,
) -> Tensor:
    """Average lambda(sigma) (D(x + sigma n; sigma) - x)^2 over all pixels, equation 2.

    lambda = (sigma^2 + sd^2) / (sigma sd)^2 = 1 / c_out^2, with sd the deviation of the data.

    Args:
        network: F.
        images: (B, 3, H, W), clean.
        noise: (B, 3, H, W), with standard deviation 1.
        sigma: (B,).
        people: (B,) int64 labels.
        cameras: (B,) int64 labels.

    Returns:
        Scalar; about 1 for a network that knows nothing.
    """
    noisy = images + sigma[:, None, None, None] * noise
    error = (denoise(network, noisy, sigma, people, cameras) - images).square().mean(dim=(1, 2, 3))
    return (error / scalings(sigma).out ** 2).mean()


def draw_sigma(number: int, generator: torch.Generator) -> Tensor:
    """Draw (number,) noise levels for training: ln sigma ~ N(-1.2, 1.2^2)."""
    return (LOG_SIGMA_MEAN + LOG_SIGMA_STD * torch.randn(number, generator=generator)).exp()


def to_unit(images: Tensor) -> Tensor:
    """Convert uint8 images to float32 in [-1, 1]."""
    return images.float() / 127.5 - 1


def to_pixels(images: Tensor) -> Tensor:
    """Convert images in [-1, 1] to uint8, clipping values outside."""
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
