"""Adversarial self-attack of SADSTRM, arXiv 2307.03903: interference in the maps, made an attacker.

The paper's abstract states the idea: the interference that view, pose, background and modality
leave in the training samples is activated, in feature space, as the perturbation that attacks the
network while it trains. How Delta is made, budget and losses are this package's design. Training
only.

Legend: B clips of T frames, N = B * T; F0 the stem maps (N, 64, h, w); Delta their perturbation;
f~ the features of the attacked maps F0 + Delta; L_A what an attacker minimises.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from fastreid.config import CfgNode, configurable
from torch import Tensor, nn

from plugins.errors import InputError
from plugins.modeling.backbones.two_stream import STEM_CHANNELS, by_modality
from plugins.modeling.losses.functional import confusion_loss, reversed_triplet

# Guards divisions; no stem map that carries a picture has a norm near it.
TINY = 1e-12

# L_A by name, of attacked maps.
Losses = Callable[[Tensor], dict[str, Tensor]]


def frame_norms(maps: Tensor) -> Tensor:
    """L2 norm of each map, (N, C, h, w) to (N, 1, 1, 1), float32."""
    return torch.linalg.vector_norm(maps, dim=(1, 2, 3), keepdim=True, dtype=torch.float32)


def budget_share(perturbation: Tensor, maps: Tensor, eps: float) -> Tensor:
    """What takes D to its largest norm, eps * |F0| / |D| of each frame: (N, 1, 1, 1), float32."""
    return eps * frame_norms(maps) / frame_norms(perturbation).clamp_min(TINY)


def bounded(perturbation: Tensor, maps: Tensor, eps: float) -> Tensor:
    """Delta = D * min(1, eps * |F0| / |D|), each frame by itself.

    Args:
        perturbation: D, (N, C, h, w).
        maps: F0, same shape.
        eps: largest norm of Delta as a share of that of F0.

    Returns:
        Delta, same shape; 0 where D is 0, with a finite gradient.
    """
    room = budget_share(perturbation, maps, eps)
    return perturbation * room.clamp_max(1).to(perturbation.dtype)


def relative_norm(perturbation: Tensor, maps: Tensor) -> Tensor:
    """Mean over the frames of |Delta| / |F0|, a scalar."""
    return (frame_norms(perturbation) / frame_norms(maps).clamp_min(TINY)).mean()


def channel_attention(query: Tensor, key: Tensor, value: Tensor, temperature: Tensor) -> Tensor:
    """Attention between channels: softmax(q k^T * temperature) v, with q, k of unit rows.

    Args:
        query: (N, C, h, w); a channel's row is its h * w values.
        key: same shape.
        value: same shape.
        temperature: (heads, 1, 1), multiplies the cosines.

    Returns:
        Same shape as ``query``; channels mix within their head only.
    """
    heads = len(temperature)
    q, k, v = (x.flatten(2).unflatten(1, (heads, -1)) for x in (query, key, value))
    # In float32: half precision rounds the guard of a zero row away.
    unit_q, unit_k = F.normalize(q.float(), dim=-1), F.normalize(k.float(), dim=-1)
    cosines = unit_q @ unit_k.transpose(-2, -1)
    mixed = (cosines * temperature).softmax(dim=-1).to(v.dtype) @ v  # (N, heads, C / heads, h * w)
    return mixed.reshape(query.shape)


class Interference(nn.Module):
    """D of F0 for one modality: normalise, q k v, channel attention, mix; 18 k parameters."""

    def __init__(self, heads: int):
        super().__init__()
        self.norm = nn.GroupNorm(1, STEM_CHANNELS)
        inner = 3 * STEM_CHANNELS
        self.qkv = nn.Sequential(
            nn.Conv2d(STEM_CHANNELS, inner, 1, bias=False),
            nn.Conv2d(inner, inner, 3, padding=1, groups=inner, bias=False),
        )
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.mix = nn.Conv2d(STEM_CHANNELS, STEM_CHANNELS, 1, bias=False)
        for layer in (*self.qkv, self.mix):
            # Keeps the variance. torch's default loses two thirds of it per layer, and an attack
            # that starts at a tenth of its budget would hardly be one.
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")

    def forward(self, maps: Tensor) -> Tensor:
        """F0 (N, 64, h, w) to D, same shape."""
        query, key, value = self.qkv(self.norm(maps)).chunk(3, dim=1)
        return self.mix(channel_attention(query, key, value, self.temperature))


class Attacker(nn.Module):
    """What attackers with an aim share: their budget, and L_A.

    Args:
        eps: largest |Delta| as a share of |F0|, per frame.
        cameras: number of cameras; read only if ``cam_weight`` is above 0.
        temperature: divides the logits of L_conf.
        margin: m of L_rev, feature units.
        conf_weight: weight of L_conf.
        rev_weight: weight of L_rev.
        mod_weight: weight of L_mod.
        cam_weight: weight of L_cam; 0 leaves the camera classifier out.

    Raises:
        InputError: L_cam has no cameras.
    """

    def __init__(
        self,
        *,
        eps: float,
        cameras: int,
        temperature: float,
        margin: float,
        conf_weight: float,
        rev_weight: float,
        mod_weight: float,
        cam_weight: float,
    ):
        super().__init__()
        if cam_weight > 0 and cameras < 1:
            raise InputError(
                f"MODEL.SELF_ATTACK.NUM_CAMERAS: CAM_WEIGHT {cam_weight} needs the number of "
                f"cameras, found {cameras}"
            )
        self.eps = eps
        self.temperature = temperature
        self.margin = margin
        self.conf_weight = conf_weight
        self.rev_weight = rev_weight
        self.mod_weight = mod_weight
        self.cam_weight = cam_weight
        self.modality_classifier = nn.Linear(STEM_CHANNELS, 2)
        self.camera_classifier = nn.Linear(STEM_CHANNELS, cameras) if cam_weight > 0 else None

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Read ``MODEL.SELF_ATTACK``."""
        settings = cfg.MODEL.SELF_ATTACK
        return {
            "eps": settings.EPS,
            "cameras": settings.NUM_CAMERAS,
            "temperature": settings.TEMPERATURE,
            "margin": settings.MARGIN,
            "conf_weight": settings.CONF_WEIGHT,
            "rev_weight": settings.REV_WEIGHT,
            "mod_weight": settings.MOD_WEIGHT,
            "cam_weight": settings.CAM_WEIGHT,
        }

    def reid_losses(
        self, outputs: dict[str, Tensor], guides: Tensor, targets: Tensor
    ) -> dict[str, Tensor]:
        """What the attack wants of the re-ID network: L_conf and L_rev, weighted.

        Args:
            outputs: the head's training dict for the attacked clips, (B, classes) and (B, D).
            guides: clean features (B, D).
            targets: (B,) person labels.
        """
        confusion = confusion_loss(outputs["pred_class_logits"], self.temperature)
        reversal = reversed_triplet(outputs["features"], guides, targets, self.margin)
        return {
            "loss_conf": self.conf_weight * confusion,
            "loss_rev": self.rev_weight * reversal,
        }

    def interference_losses(
        self, attacked_maps: Tensor, modalities: Tensor, cameras: Tensor
    ) -> dict[str, Tensor]:
        """What keeps the attack an interference: L_mod and, if weighted, L_cam.

        Args:
            attacked_maps: F0 + Delta, (N, 64, h, w).
            modalities: (N,) 0 visible, 1 infrared.
            cameras: (N,) camera labels, from 0.
        """
        pooled = attacked_maps.float().mean(dim=(2, 3))
        modality = F.cross_entropy(self.modality_classifier(pooled).float(), modalities)
        losses = {"loss_mod": self.mod_weight * modality}
        if self.camera_classifier is not None:
            camera = F.cross_entropy(self.camera_classifier(pooled).float(), cameras)
            losses["loss_cam"] = self.cam_weight * camera
        return losses


class SelfAttack(Attacker):
    """Delta from each frame's own map, by a module that learns L_A.

    Args:
        heads: heads of the channel attention, a divisor of 64.
        **attacker: the arguments of Attacker.

    Raises:
        InputError: the heads do not divide the channels, or L_cam has no cameras.
    """

    @configurable
    def __init__(self, *, heads: int, **attacker):
        super().__init__(**attacker)
        if heads < 1 or STEM_CHANNELS % heads:
            raise InputError(
                f"MODEL.SELF_ATTACK.HEADS: expected a divisor of {STEM_CHANNELS}, found {heads}"
            )
        # Indexed by modality: 0 visible, 1 infrared.
        self.interference = nn.ModuleList([Interference(heads), Interference(heads)])

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Read ``MODEL.SELF_ATTACK``."""
        return {**super().from_config(cfg), "heads": cfg.MODEL.SELF_ATTACK.HEADS}

    def forward(self, maps: Tensor, modalities: Tensor, losses: Losses | None = None) -> Tensor:
        """Delta of the stem maps, within budget.

        Args:
            maps: F0, (N, 64, h, w).
            modalities: (N,).
            losses: L_A; not used, as the module has learned it.

        Returns:
            Same shape as ``maps``.
        """
        return bounded(by_modality(self.interference, maps, modalities), maps, self.eps)


class GradientAttack(Attacker):
    """Delta down the gradient of L_A, of exactly ``eps`` times the norm of each map.

    A module's Delta is one function of all frames, and what that finds the network gives up
    altogether (see ``projects/sadstrm``); this one is each frame's own. What learns are the
    classifiers of L_mod and L_cam, on clean maps.
    """

    @configurable
    def __init__(self, **attacker):
        super().__init__(**attacker)

    def forward(self, maps: Tensor, modalities: Tensor, losses: Losses) -> Tensor:
        """Delta of the stem maps, without a gradient.

        Args:
            maps: F0, (N, 64, h, w).
            modalities: (N,), not used.
            losses: L_A.

        Returns:
            Same shape as ``maps``; 0 for a map whose gradient is.
        """
        point = maps.detach().float().requires_grad_(True)
        # In float32: half precision rounds gradients this small to 0.
        with torch.enable_grad(), torch.autocast(maps.device.type, enabled=False):
            (gradient,) = torch.autograd.grad(sum(losses(point).values()), point)
        return (-gradient * budget_share(gradient, maps, self.eps)).to(maps.dtype)


class RandomAttack(nn.Module):
    """Gaussian Delta of exactly ``eps`` times the norm of each map: does an attack beat noise?

    It is a control of equal strength only if it gets the norm that the learned attack uses, which
    is less than that one's ``eps`` (about half of it at the start): set ``MODEL.SELF_ATTACK.EPS``
    of the control to the "self_attack/relative_norm" that the learned run logs, averaged over its
    epochs with attack. Both kinds log it.

    Args:
        eps: |Delta| as a share of |F0|, per frame.
    """

    @configurable
    def __init__(self, *, eps: float):
        super().__init__()
        self.eps = eps

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Read ``MODEL.SELF_ATTACK.EPS``."""
        return {"eps": cfg.MODEL.SELF_ATTACK.EPS}

    def forward(
        self,
        maps: Tensor,
        modalities: Tensor,
        losses: Losses | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Delta of the stem maps (N, 64, h, w), same shape.

        Args:
            maps: F0.
            modalities: (N,), not used: both get the same noise.
            losses: L_A, not used.
            generator: source of the draws; torch's own, seeded by ``SEED``, when not given.
        """
        noise = torch.randn(maps.shape, generator=generator, device=maps.device)
        return (noise * budget_share(noise, maps, self.eps)).to(maps.dtype)


ATTACKERS = {"learned": SelfAttack, "gradient": GradientAttack, "random": RandomAttack}


def build_self_attack(cfg: CfgNode) -> Attacker | RandomAttack:
    """The attacker that ``MODEL.SELF_ATTACK.KIND`` names.

    Raises:
        InputError: it names none.
    """
    kind = cfg.MODEL.SELF_ATTACK.KIND
    if kind not in ATTACKERS:
        raise InputError(f"MODEL.SELF_ATTACK.KIND: no kind '{kind}'; known: {', '.join(ATTACKERS)}")
    return ATTACKERS[kind](cfg)
