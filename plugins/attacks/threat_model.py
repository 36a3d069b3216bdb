"""The threat model, and the set of images that it allows for one batch.

Legend: B clips of T frames of 3 x H x W, R rows (items of query + gallery) they belong to. Pixels,
budgets and perturbations are in gray levels, 0 to 255.
"""

from dataclasses import dataclass, fields

import torch
from fastreid.config import CfgNode
from torch import Tensor

from plugins.attacks.features import check_range, float_images, row_groups
from plugins.attacks.projections import expand_rows, row_norms, shrink, smooth, tighten, unit
from plugins.config import check_value
from plugins.errors import InputError
from plugins.utils.random import item_generator

INFRARED = ("free", "tied")


@dataclass(frozen=True)
class ThreatModel:
    """What the attacker may change.

    Attributes:
        norm: "linf" bounds each pixel's change by eps; "l2" bounds the Euclidean norm over all
            pixels of all clips of a row by eps.
        eps: radius of the ball, gray levels.
        frames: "dense" perturbs each frame by itself; "shared" perturbs all frames of a clip alike;
            "sparse" perturbs only the ``sparse_frames`` frames of a clip with the largest gradient;
            "smooth" lets no pixel's perturbation change by more than ``smooth_tau`` from one frame
            to the next.
        sparse_frames: number of perturbed frames, 1 or more; a clip that has no more frames is
            perturbed in all of them.
        smooth_tau: largest change between two frames, gray levels.
        infrared: perturbation of infrared images: "free", or "tied" to be equal in the three
            channels, as a camera with one channel would record it.
    """

    norm: str = "linf"
    eps: float = 8.0
    frames: str = "dense"
    sparse_frames: int = 1
    smooth_tau: float = 2.0
    infrared: str = "free"

    def __post_init__(self) -> None:
        """Raise InputError, naming the config key, for a choice or number that does not exist."""
        if self.infrared not in INFRARED:  # where a config's "access" has been resolved
            raise InputError(
                f"ATTACK.INFRARED: {self.infrared!r}; expected {' or '.join(INFRARED)}"
            )
        for field in fields(self):
            check_value(f"ATTACK.{field.name.upper()}", getattr(self, field.name))

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "ThreatModel":
        """Read the keys of the ATTACK section that bear the attributes' names.

        ATTACK.ACCESS decides how infrared frames change where ATTACK.INFRARED leaves it open.

        Raises:
            InputError: a key has no such value, or a clip has fewer frames than "sparse" attacks.
        """
        number, length = cfg.ATTACK.SPARSE_FRAMES, cfg.INPUT.CLIP.LENGTH
        if cfg.ATTACK.FRAMES == "sparse" and number > length:
            raise InputError(
                f"ATTACK.SPARSE_FRAMES: {number}, but a clip has INPUT.CLIP.LENGTH {length} "
                f"frames, which all would be attacked; expected 1 to {length}, or "
                "ATTACK.FRAMES dense"
            )
        values = {field: cfg.ATTACK[field.upper()] for field in cls.__dataclass_fields__}
        if values["infrared"] == "access":
            values["infrared"] = "tied" if cfg.ATTACK.ACCESS == "camera" else "free"
        return cls(**values)


class PerturbationSet:
    """The images that a threat model allows in place of those of one batch; a convex set.

    Attributes:
        threat: the threat model.
        batch: the clean batch.
        clean: (B, T, 3, H, W), T = 1 for images.
        groups: (B,) the row of each clip, 0 to R - 1, on the device of ``clean``.
        rows: (R,) names of the rows in the data set, on the CPU; the random draws derive from them.
        frames: (B, T) bool, the frames that "sparse" perturbs; None until they are selected, when
            all may be changed.
    """

    def __init__(self, threat: ThreatModel, batch: dict, frames: Tensor | None = None) -> None:
        """Allow changes of the ``images`` of a batch.

        Warns, once, of images that look like shares of 255.

        Raises:
            InputError: the images are not in [0, 255], for example because they are normalized.
        """
        clean = float_images(batch)["images"].detach()
        self.clean = clean if clean.dim() == 5 else clean.unsqueeze(1)
        check_range(clean, "images")
        self.threat, self.batch, self.frames = threat, batch, frames
        groups, self.rows = row_groups(batch)
        self.groups = groups.to(clean.device)
        self._tied: Tensor | None = None
        if threat.infrared == "tied":
            modalities = batch.get("modalities", torch.zeros(len(clean))).to(clean.device)
            self._tied = (modalities == 1).view(-1, 1, 1, 1, 1)
        self._low, self._high = self._bounds()

    @property
    def frames_selected(self) -> bool:
        """Whether the frames that may be perturbed are known."""
        return self.threat.frames != "sparse" or self.frames is not None

    def select_frames(self, gradient: Tensor) -> "PerturbationSet":
        """Return the set whose ``frames`` have the largest gradient (B, T, 3, H, W)."""
        norms = self.average_tied(gradient).flatten(2).norm(dim=2)  # (B, T)
        number = min(self.threat.sparse_frames, norms.shape[1])
        largest = norms.topk(number, dim=1).indices
        frames = torch.zeros_like(norms, dtype=torch.bool).scatter_(1, largest, True)
        return type(self)(self.threat, self.batch, frames)

    def average_tied(self, clips: Tensor) -> Tensor:
        """Average (B, T, 3, H, W) clips over values that are tied; set frozen frames to 0.

        The result is the nearest point that respects the ties. Applied to a gradient it gives the
        gradient of the tied perturbation, which is the sum over tied values, divided by their
        number; the steps normalize the length of a gradient anyway.
        """
        if self.threat.frames == "shared":
            clips = clips.mean(dim=1, keepdim=True).expand_as(clips)
        if self._tied is not None:
            clips = torch.where(self._tied, clips.mean(dim=2, keepdim=True), clips)
        return clips if self.frames is None else clips * self.frames[..., None, None, None]

    def steepest_direction(self, gradient: Tensor) -> Tensor:
        """Return the direction (B, T, 3, H, W) of norm 1 along which the objective rises most."""
        gradient = self.average_tied(gradient)
        if self.threat.norm == "linf":
            return gradient.sign()
        return unit(gradient, self.groups, len(self.rows), 2)

    def project(self, images: Tensor) -> Tensor:
        """Move images (B, T, 3, H, W) into the set; images inside stay, except for rounding."""
        delta = self.average_tied(images - self.clean)
        if self.threat.norm == "l2":
            delta = self._shrink(delta)
        if self.threat.frames == "smooth":
            delta = smooth(delta, self._low, self._high, self.threat.smooth_tau)
        else:
            delta = delta.clamp(self._low, self._high)
        if self.threat.norm == "l2":
            # The sweep of ``smooth`` may have left the ball; shrinking breaks no other constraint.
            delta = self._shrink(delta)
        return (self.clean + delta).clamp(0, 255)

    def random_point(self, seed: int, restart: int) -> Tensor:
        """Draw images (B, T, 3, H, W): uniform in the ball for L-inf, on the sphere for L2.

        A row's draw depends on the seed, its name in ``rows`` and the restart, not on the batch.
        """
        noise = torch.empty_like(self.clean)
        for index, row in enumerate(self.rows.tolist()):
            generator = item_generator(seed, row, restart)
            clips = self.groups == index
            shape = noise[clips].shape
            if self.threat.norm == "linf":
                values = torch.rand(shape, generator=generator) * 2 - 1
            else:
                values = torch.randn(shape, generator=generator)
            noise[clips] = values.to(noise)
        # The first of the tied values, because their mean would be small.
        if self.threat.frames == "shared":
            noise = noise[:, :1].expand_as(noise)
        if self._tied is not None:
            noise = torch.where(self._tied, noise[:, :, :1], noise)
        if self.threat.norm == "l2":
            noise = unit(noise, self.groups, len(self.rows), 2)
        return self.project(self.clean + self.threat.eps * noise)

    def unit_l1(self, gradient: Tensor) -> Tensor:
        """Divide the tied gradient (B, T, 3, H, W) by its L1 norm over the row."""
        return unit(self.average_tied(gradient), self.groups, len(self.rows), 1)

    def row_norms(self, gradient: Tensor) -> Tensor:
        """Compute the L2 norm (R,) of the tied gradient (B, T, 3, H, W) over each row."""
        return row_norms(self.average_tied(gradient), self.groups, len(self.rows), 2)

    def expand_rows(self, values: Tensor) -> Tensor:
        """Expand values of rows (R,) to (B, 1, 1, 1, 1), one for each clip."""
        return expand_rows(values, self.groups)

    def _shrink(self, delta: Tensor) -> Tensor:
        return shrink(delta, self.groups, len(self.rows), self.threat.eps)

    def _bounds(self) -> tuple[Tensor, Tensor]:
        """Compute the bounds of each pixel's perturbation, equal where pixels are tied."""
        low, high = -self.clean, 255 - self.clean
        if self.threat.norm == "linf":
            low, high = low.clamp_min(-self.threat.eps), high.clamp_max(self.threat.eps)
        if self.threat.frames == "shared":
            low = low.amax(dim=1, keepdim=True).expand_as(low)
            high = high.amin(dim=1, keepdim=True).expand_as(high)
        if self._tied is not None:
            low = torch.where(self._tied, low.amax(dim=2, keepdim=True), low)
            high = torch.where(self._tied, high.amin(dim=2, keepdim=True), high)
        if self.frames is not None:
            low, high = (bound * self.frames[..., None, None, None] for bound in (low, high))
        if self.threat.frames == "smooth":
            low, high = tighten(low, high, self.threat.smooth_tau)
        return low, high
