"""The diffusion arithmetic: against loops, and where the exact answer is known."""

import math

import pytest
import torch

from plugins.balancing.edm import (
    denoise,
    denoising_loss,
    draw_sigma,
    scalings,
    to_pixels,
    to_unit,
)
from plugins.balancing.sampling import RHO, SIGMA_MAX, SIGMA_MIN, sample
from plugins.errors import InputError

SHAPE = (5, 3, 4, 2)


class Gaussian:
    """The exact network for images whose pixels are N(mean, std^2)."""

    people = cameras = 0

    def __init__(self, mean, std):
        self.mean, self.std = mean, std

    def __call__(self, scaled, noise, people, cameras):
        sigma = (4 * noise).exp()[:, None, None, None]
        skip, out, into, _ = scalings(sigma)
        noisy = scaled / into
        clean = (self.std**2 * noisy + sigma**2 * self.mean) / (self.std**2 + sigma**2)
        return (clean - skip * noisy) / out


def draw(seed=0):
    generator = torch.Generator().manual_seed(seed)
    images, noise = torch.randn((2, *SHAPE), generator=generator, dtype=torch.float64)
    labels = torch.zeros(len(images), dtype=torch.int64)
    return images, noise, draw_sigma(len(images), generator).double(), labels


def test_the_loss_is_that_of_a_loop_over_pixels():
    images, noise, sigma, labels = draw()

    def network(scaled, level, people, cameras):
        return torch.tanh(2 * scaled) + level[:, None, None, None]

    total = 0.0
    for image, disturbance, s in zip(images, noise, sigma.tolist(), strict=True):
        for clean, n in zip(image.flatten().tolist(), disturbance.flatten().tolist(), strict=True):
            noisy, total_variance = clean + s * n, s**2 + 0.25
            output = math.tanh(2 * noisy / math.sqrt(total_variance)) + math.log(s) / 4
            denoised = 0.25 / total_variance * noisy + s * 0.5 / math.sqrt(total_variance) * output
            total += total_variance / (s * 0.5) ** 2 * (denoised - clean) ** 2
    found = denoising_loss(network, images, noise, sigma, labels, labels)
    assert found.item() == pytest.approx(total / images.numel(), rel=1e-12)


def test_a_network_that_knows_nothing_has_a_loss_of_one():
    """For data of standard deviation 0.5, the target of F has variance 1 at every sigma."""

    def ignorant(scaled, *_):
        return torch.zeros_like(scaled)

    generator = torch.Generator().manual_seed(0)
    images = 0.5 * torch.randn((4000, 3, 4, 2), generator=generator)
    noise = torch.randn(images.shape, generator=generator)
    labels = torch.zeros(len(images), dtype=torch.int64)
    for sigma in (0.01, 1.0, 50.0):
        level = torch.full((len(images),), sigma)
        loss = denoising_loss(
            lambda x, *_: torch.zeros_like(x), images, noise, level, labels, labels
        )
        assert loss.item() == pytest.approx(1, abs=0.02)


def test_the_exact_network_gives_the_posterior_mean():
    images, noise, sigma, labels = draw()
    noisy = images + sigma[:, None, None, None] * noise
    found = denoise(Gaussian(0.3, 0.2), noisy, sigma, labels, labels)
    weight = 0.04 / (0.04 + sigma[:, None, None, None] ** 2)
    torch.testing.assert_close(found, weight * noisy + (1 - weight) * 0.3)


def test_noise_levels_are_log_normal():
    logs = draw_sigma(20000, torch.Generator().manual_seed(0)).log()
    assert logs.mean().item() == pytest.approx(-1.2, abs=0.03)
    assert logs.std().item() == pytest.approx(1.2, abs=0.03)


def euler(network, noise, steps):
    """Algorithm 1 of EDM without its second order correction and without churn."""
    inverse = [SIGMA_MAX ** (1 / RHO), SIGMA_MIN ** (1 / RHO)]
    sigmas = [
        (inverse[0] + i / (steps - 1) * (inverse[1] - inverse[0])) ** RHO for i in range(steps)
    ]
    labels = torch.zeros(len(noise), dtype=torch.int64)
    images = sigmas[0] * noise.double()
    for now, then in zip(sigmas, [*sigmas[1:], 0.0], strict=True):
        level = torch.full((len(noise),), now, dtype=torch.float64)
        slope = (images - denoise(network, images, level, labels, labels)) / now
        images = images + (then - now) * slope
    return images


def test_the_euler_scheduler_is_the_loop_of_the_paper():
    _, noise, _, labels = draw()
    network = Gaussian(0.3, 0.2)
    found = sample(network, noise.float(), labels, labels)
    torch.testing.assert_close(found.double(), euler(network, noise, 18), atol=2e-5, rtol=0)


@pytest.mark.parametrize(("scheduler", "steps"), [("euler", 400), ("dpm", 40)])
def test_both_schedulers_solve_the_flow_whose_solution_is_known(scheduler, steps):
    """For N(m, s^2) the flow shrinks x - m by s / sqrt(s^2 + sigma^2)."""
    _, noise, _, labels = draw()
    exact = 0.3 + (SIGMA_MAX * noise - 0.3) * 0.2 / math.hypot(0.2, SIGMA_MAX)
    options = {"scheduler": scheduler, "steps": steps}
    found = sample(Gaussian(0.3, 0.2), noise.float(), labels, labels, **options)
    torch.testing.assert_close(found.double(), exact, atol=0.02, rtol=0)


def test_guidance_moves_away_from_the_unknown():
    """Of F: 2 for a known person, 1 for an unknown one."""

    class Network:
        people, cameras = 7, 8

        def __call__(self, scaled, noise, people, cameras):
            unknown = (people == 7) & (cameras == 8)
            return (2 - unknown.float())[:, None, None, None].expand_as(scaled)

    class Constant(Network):
        def __init__(self, value):
            self.value = value

        def __call__(self, scaled, *_):
            return torch.full_like(scaled, self.value)

    _, noise, _, labels = draw()
    for guidance, value in ((0.0, 1.0), (1.0, 2.0), (3.0, 4.0)):
        found = sample(Network(), noise.float(), labels, labels, guidance=guidance)
        torch.testing.assert_close(found, sample(Constant(value), noise.float(), labels, labels))


def test_an_unknown_scheduler_is_named():
    with pytest.raises(InputError, match="'eular'; expected euler or dpm"):
        sample(Gaussian(0, 1), torch.zeros(SHAPE), None, None, scheduler="eular")


@pytest.mark.slow
def test_pixels_survive_the_way_there_and_back():
    pixels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_pixels(to_unit(pixels)), pixels)
    assert to_pixels(torch.tensor([-9.0, 9.0])).tolist() == [0, 255]
