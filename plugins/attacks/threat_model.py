"""The threat model, and the set of images that it allows for one batch.

Legend: B clips of T frames of 3 x H x W, R rows (items of query + gallery) they belong to. Pixels,
budgets and perturbations are in 0-255 units.
"""

import math
from dataclasses import dataclass

import torch
from fastreid.config import CfgNode
from torch import Tensor

from plugins.attacks.features import float_images, row_groups
from plugins.attacks.projections import row_norms, shrink, smooth, spread, tighten, unit
from plugins.errors import InputError
from plugins.utils.random import item_generator

NORMS = ("linf", "l2")
FRAMES = ("dense", "shared", "sparse", "smooth")
INFRARED = ("free", "tied")


@dataclass(frozen=True)
class ThreatModel:
    """What the attacker may change.

    Attributes:
        norm: "linf", each pixel by at most eps; "l2", the Euclidean norm over all pixels of all
            clips of a row at most eps.
        eps: 0-255 units.
        frames: "dense", each frame its own perturbation; "shared", one for all frames of a clip;
            "sparse", only the ``sparse_frames`` frames of a clip with the largest gradient;
            "smooth", no pixel's perturbation changes by more than ``smooth_tau`` between frames.
        sparse_frames: 1 or more; a clip that has no more is attacked in all its frames.
        smooth_tau: 0-255 units.
        infrared: perturbation of infrared images, "free" or "tied": equal in the three channels, as
            a camera with one would record it.
    """

    norm: str = "linf"
    eps: float = 8.0
    frames: str = "dense"
    sparse_frames: int = 1
    smooth_tau: float = 2.0
    infrared: str = "free"

    def __post_init__(self) -> None:
        """Raise InputError, naming the config key, for a choice or number that does not exist."""
        choices = {"norm": NORMS, "frames": FRAMES, "infrared": INFRARED}
        for field, known in choices.items():
            if getattr(self, field) not in known:
                raise InputError(
                    f"ATTACK.{field.upper()}: '{getattr(self, field)}'; expected {', '.join(known)}"
                )
        for field, least in {"eps": 0, "sparse_frames": 1, "smooth_tau": 0}.items():
            if not least <= getattr(self, field) < math.inf:
                raise InputError(
                    f"ATTACK.{field.upper()}: {getattr(self, field)}; expected {least} or more"
                )

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "ThreatModel":
        """Read the keys of the ATTACK section that bear the attributes' names."""
        return cls(**{field: cfg.ATTACK[field.upper()] for field in cls.__dataclass_fields__})


class Region:
    """The images that a threat model allows in place of those of one batch; a convex set.

    Attributes:
        threat: the threat model.
        clean: (B, T, 3, H, W), T = 1 for images.
        groups: (B,) the row of each clip, 0 to R - 1.
        rows: (R,) what the rows are called in the data set, from which their random draws come.
        frames: (B, T) bool, the frames that "sparse" attacks; None until they are chosen, and then
            all may be changed.
    """

    def __init__(self, threat: ThreatModel, batch: dict, frames: Tensor | None = None) -> None:
        """Allow changes of the ``images`` of a batch.

        Raises:
            InputError: they are not in [0, 255], such as normalised ones.
        """
        clean = float_images(batch)["images"].detach()
        self.clean = clean if clean.dim() == 5 else clean.unsqueeze(1)
        lowest, highest = self.clean.amin().item(), self.clean.amax().item()
        if not 0 <= lowest <= highest <= 255:
            raise InputError(
                f"attack: images lie in [{lowest:g}, {highest:g}]; expected [0, 255], "
                "as they are before normalisation"
            )
        self.threat, self.batch, self.frames = threat, batch, frames
        self.groups, self.rows = (ids.to(clean.device) for ids in row_groups(batch))
        infrared = batch.get("modalities", torch.zeros(len(clean))).to(clean.device) == 1
        self._tied = (infrared & (threat.infrared == "tied")).view(-1, 1, 1, 1, 1)
        self._low, self._high = self._bounds()

    @property
    def settled(self) -> bool:
        """The attacked frames are known."""
        return self.threat.frames != "sparse" or self.frames is not None

    def settle(self, gradient: Tensor) -> "Region":
        """The region whose ``frames`` are those with the largest gradient (B, T, 3, H, W)."""
        norms = self.tie(gradient).flatten(2).norm(dim=2)  # (B, T)
        number = min(self.threat.sparse_frames, norms.shape[1])
        largest = norms.topk(number, dim=1).indices
        frames = torch.zeros_like(norms, dtype=torch.bool).scatter_(1, largest, True)
        return Region(self.threat, self.batch, frames)

    def tie(self, clips: Tensor) -> Tensor:
        """The nearest clips (B, T, 3, H, W) with what must be equal equal, and the rest 0.

        Of a gradient it is the gradient of the tied perturbation: the sum over what is tied, as
        every step is without its length, and here divided by how many are tied.
        """
        if self.threat.frames == "shared":
            clips = clips.mean(dim=1, keepdim=True).expand_as(clips)
        clips = torch.where(self._tied, clips.mean(dim=2, keepdim=True), clips)
        return clips if self.frames is None else clips * self.frames[..., None, None, None]

    def steepest(self, gradient: Tensor) -> Tensor:
        """The direction (B, T, 3, H, W) of length 1 in the threat's norm that rises most."""
        gradient = self.tie(gradient)
        return gradient.sign() if self.threat.norm == "linf" else unit(gradient, self.groups, 2)

    def project(self, images: Tensor) -> Tensor:
        """Images (B, T, 3, H, W) moved into the region; those inside stay, but for rounding."""
        delta = self.tie(images - self.clean)
        if self.threat.norm == "l2":
            delta = shrink(delta, self.groups, self.threat.eps)
        if self.threat.frames == "smooth":
            delta = smooth(delta, self._low, self._high, self.threat.smooth_tau)
        else:
            delta = delta.clamp(self._low, self._high)
        if self.threat.norm == "l2":
            # The sweep of ``smooth`` may have left the ball; shrinking leaves no other constraint.
            delta = shrink(delta, self.groups, self.threat.eps)
        return (self.clean + delta).clamp(0, 255)

    def random(self, seed: int, restart: int) -> Tensor:
        """Images (B, T, 3, H, W) drawn from the budget: uniform for L-inf, on the sphere for L2.

        A row's draw depends on the seed, its name in ``rows`` and the restart, not on the batch.
        """
        noise = torch.empty_like(self.clean)
        for place, row in enumerate(self.rows.tolist()):
            generator = item_generator(seed, row, restart)
            clips = self.groups == place
            shape = noise[clips].shape
            if self.threat.norm == "linf":
                drawn = torch.rand(shape, generator=generator) * 2 - 1
            else:
                drawn = torch.randn(shape, generator=generator)
            noise[clips] = drawn.to(noise)
        # Not the mean of what is tied, which would be small.
        if self.threat.frames == "shared":
            noise = noise[:, :1].expand_as(noise)
        noise = torch.where(self._tied, noise[:, :, :1], noise)
        if self.threat.norm == "l2":
            noise = unit(noise, self.groups, 2)
        return self.project(self.clean + self.threat.eps * noise)

    def unit_l1(self, gradient: Tensor) -> Tensor:
        """The tied gradient (B, T, 3, H, W), divided by its L1 norm over the row."""
        return unit(self.tie(gradient), self.groups, 1)

    def row_norms(self, gradient: Tensor) -> Tensor:
        """The L2 norm (R,) of the tied gradient (B, T, 3, H, W) over each row."""
        return row_norms(self.tie(gradient), self.groups, 2)

    def spread(self, values: Tensor) -> Tensor:
        """Values of rows (R,) as (B, 1, 1, 1, 1), for their clips."""
        return spread(values, self.groups)

    def _bounds(self) -> tuple[Tensor, Tensor]:
        """Lowest and highest perturbation of each pixel, equal where the pixels are tied."""
        low, high = -self.clean, 255 - self.clean
        if self.threat.norm == "linf":
            low, high = low.clamp_min(-self.threat.eps), high.clamp_max(self.threat.eps)
        if self.threat.frames == "shared":
            low = low.amax(dim=1, keepdim=True).expand_as(low)
            high = high.amin(dim=1, keepdim=True).expand_as(high)
        low = torch.where(self._tied, low.amax(dim=2, keepdim=True), low)
        high = torch.where(self._tied, high.amin(dim=2, keepdim=True), high)
        if self.frames is not None:
            low, high = (bound * self.frames[..., None, None, None] for bound in (low, high))
        if self.threat.frames == "smooth":
            low, high = tighten(low, high, self.threat.smooth_tau)
        return low, high
