"""The interface of generators, and the trained diffusion model that implements it."""

from pathlib import Path
from typing import Protocol

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor

from plugins.balancing.edm import to_pixels
from plugins.balancing.sampling import sample
from plugins.balancing.training import (
    TrainingSettings,
    read_generator,
    require_same_network,
)
from plugins.errors import InputError
from plugins.utils.names import closest_names
from plugins.utils.random import item_generator

BATCH = 64  # images sampled at a time


class Generator(Protocol):
    """Makes images of a person as a camera would see them."""

    def generate(self, person: str, camera: str, n: int) -> Tensor:
        """Generate ``n`` images, the same in each call.

        Returns:
            (n, 3, H, W) uint8, RGB.

        Raises:
            InputError: the generator does not know the person or the camera.
        """
        ...


class EDMGenerator:
    """Generates images with the averaged weights of a trained diffusion model."""

    def __init__(
        self,
        path: Path,
        device: str,
        *,
        seed: int = 0,
        scheduler: str = "euler",
        steps: int = 18,
        guidance: float = 1.0,
    ) -> None:
        """Load a checkpoint; for the last three see :func:`sample`.

        Args:
            path: the checkpoint.
            device: device to sample on.
            seed: seed of the noise.
            scheduler: "euler" or "dpm".
            steps: evaluations of the network.
            guidance: 1 for none.

        Raises:
            InputError: the file is not a generator's checkpoint, or its network has other layers.
        """
        data = read_generator(path)
        settings = TrainingSettings(**data["settings"])
        self._people, self._cameras = data["people"], data["cameras"]
        self._size, self._seed, self._device = settings.size, seed, device
        self._scheduler, self._steps, self._guidance = scheduler, steps, guidance
        network = settings.network(len(self._people), len(self._cameras))
        require_same_network(network, data, path)
        average = EMAModel(network.parameters())
        average.load_state_dict(data["average"])
        average.copy_to(network.parameters())
        self._network = network.to(device).eval()

    def generate(self, person: str, camera: str, n: int) -> Tensor:
        """See :class:`Generator`; the first images do not depend on ``n``."""
        person_index = self._index(person, "person", self._people)
        camera_index = self._index(camera, "camera", self._cameras)
        images = [
            self._sample(person_index, camera_index, range(first, min(first + BATCH, n)))
            for first in range(0, n, BATCH)
        ]
        return torch.cat(images) if images else torch.empty((0, 3, *self._size), dtype=torch.uint8)

    def _sample(self, person: int, camera: int, numbers: range) -> Tensor:
        noise = torch.stack(
            [
                torch.randn(
                    (3, *self._size), generator=item_generator(self._seed, person, camera, number)
                )
                for number in numbers
            ]
        ).to(self._device)
        people = torch.full((len(noise),), person, device=self._device)
        cameras = torch.full((len(noise),), camera, device=self._device)
        images = sample(
            self._network,
            noise,
            people,
            cameras,
            scheduler=self._scheduler,
            steps=self._steps,
            guidance=self._guidance,
        )
        return to_pixels(images).cpu()

    @staticmethod
    def _index(name: str, kind: str, known: list[str]) -> int:
        if name not in known:
            raise InputError(
                f"the generator was not trained on {kind} '{name}'; nearest: "
                f"{', '.join(closest_names(name, known)[:3])}"
            )
        return known.index(name)
