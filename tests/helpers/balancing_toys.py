"""Photographs whose person is a color of the lower half and whose camera is that of the upper."""

import torch
from PIL import Image

from plugins.balancing.photographs import Photograph
from plugins.balancing.training import TrainingSettings

HEIGHT, WIDTH = 8, 4
PEOPLE = {"ann": (220, 30, 30), "bob": (30, 220, 30), "cid": (30, 30, 220)}
CAMERAS = {"1": (250, 250, 250), "2": (20, 20, 20)}
SETTINGS = TrainingSettings(
    size=(HEIGHT, WIDTH),
    channels=(8, 16),
    layers=1,
    patch=1,
    unknown=0.1,
    ema=0.9,
    batch=4,
    base_lr=0.002,
    seed=0,
)


def picture(person: str, camera: str, shade: int = 0) -> torch.Tensor:
    """(3, H, W) uint8."""
    image = torch.empty((3, HEIGHT, WIDTH), dtype=torch.int64)
    image[:, : HEIGHT // 2] = torch.tensor(CAMERAS[camera])[:, None, None]
    image[:, HEIGHT // 2 :] = torch.tensor(PEOPLE[person])[:, None, None]
    return (image + shade).clamp(0, 255).to(torch.uint8)


def write_photographs(folder, pairs, number=2) -> list[Photograph]:
    """``number`` files of each (person, camera)."""
    folder.mkdir(exist_ok=True)
    photographs = []
    for person, camera in pairs:
        for shade in range(number):
            path = folder / f"{person}_{camera}_{shade}.png"
            pixels = picture(person, camera, 3 * shade).permute(1, 2, 0).numpy()
            Image.fromarray(pixels).save(path)
            photographs.append(Photograph(str(path), person, camera))
    return photographs


class Painter:
    """A generator that paints the right picture, except of ``cid``; counts what it was asked."""

    def __init__(self):
        self.asked = []

    def generate(self, person, camera, n):
        self.asked.append((person, camera, n))
        shown = "ann" if person == "cid" else person
        return torch.stack([picture(shown, camera, 5 * number) for number in range(n)])
