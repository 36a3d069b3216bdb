"""Base class of attacks that minimize a loss: their budget, and the loss L_A.

Legend: B clips of T frames, N = B * T; F0 the stem maps (N, C, h, w); Delta their perturbation; f~
the features of the attacked maps F0 + Delta; L_A the loss that an attacker minimizes.
"""

import torch.nn.functional as F
from fastreid.config import CfgNode
from torch import Tensor, nn

from plugins.errors import InputError
from plugins.modeling.backbones import stage_channels
from plugins.modeling.losses.functional import confusion_loss, reversed_triplet
from plugins.modeling.self_attack.base import FeatureAttack
from plugins.modeling.self_attack.losses import other_class_loss


class Attacker(FeatureAttack):
    """Base class of attacks that minimize L_A.

    Args:
        eps: largest |Delta| as a share of |F0|, per frame.
        cameras: number of cameras; read only if ``cam_weight`` is above 0.
        temperature: divides the logits of L_conf.
        margin: m of L_rev, feature units.
        conf_weight: weight of L_conf.
        rev_weight: weight of L_rev.
        mod_weight: weight of L_mod.
        cam_weight: weight of L_cam; 0 leaves the camera classifier out.
        channels: C, 64 in a ResNet.

    Raises:
        InputError: L_cam has fewer than two cameras.
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
        channels: int,
    ):
        super().__init__()
        if cam_weight > 0 and cameras < 2:
            raise InputError(
                f"MODEL.SELF_ATTACK.NUM_CAMERAS: CAM_WEIGHT {cam_weight} needs the number of "
                f"cameras, 2 or more, found {cameras}"
            )
        self.eps = eps
        self.temperature = temperature
        self.margin = margin
        self.conf_weight = conf_weight
        self.rev_weight = rev_weight
        self.mod_weight = mod_weight
        self.cam_weight = cam_weight
        self.modality_classifier = nn.Linear(channels, 2)
        self.camera_classifier = nn.Linear(channels, cameras) if cam_weight > 0 else None

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Read ``MODEL.SELF_ATTACK`` and the channels of the trunk's stem."""
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
            "channels": stage_channels(cfg)["stem"],
        }

    def reid_losses(
        self, outputs: dict[str, Tensor], guides: Tensor, targets: Tensor
    ) -> dict[str, Tensor]:
        """Compute the weighted losses L_conf and L_rev on the re-ID network's outputs.

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
        """Compute the losses that make the attack an interference: L_mod and, if weighted, L_cam.

        Each pulls the attacked map towards another modality (camera), in the eyes of a classifier
        that learns on clean maps; nothing here trains that classifier.

        Args:
            attacked_maps: F0 + Delta, (N, C, h, w).
            modalities: (N,) 0 visible, 1 infrared.
            cameras: (N,) camera labels, from 0.
        """
        judged = self.classify(attacked_maps, modalities, cameras, trained=False)
        return {
            f"loss_{name}": weight * other_class_loss(logits, labels)
            for name, weight, logits, labels in judged
        }

    def classifier_losses(
        self, maps: Tensor, modalities: Tensor, cameras: Tensor
    ) -> dict[str, Tensor]:
        """Compute the weighted cross-entropy on clean maps that trains the classifiers.

        Args:
            maps: F0, (N, C, h, w).
            modalities: (N,).
            cameras: (N,).
        """
        judged = self.classify(maps, modalities, cameras, trained=True)
        return {
            f"loss_{name}_classifier": weight * F.cross_entropy(logits, labels)
            for name, weight, logits, labels in judged
        }

    def classify(
        self, maps: Tensor, modalities: Tensor, cameras: Tensor, trained: bool
    ) -> list[tuple[str, float, Tensor, Tensor]]:
        """Classify the maps by modality and camera.

        Args:
            maps: (N, C, h, w).
            modalities: (N,).
            cameras: (N,).
            trained: whether gradients reach the classifiers, too.

        Returns:
            For each classifier its name, "mod" or "cam", the weight of its loss, logits
            (N, classes) in float32 and labels (N,).
        """
        pooled = maps.float().mean(dim=(2, 3))
        classifiers = [("mod", self.mod_weight, self.modality_classifier, modalities)]
        if self.camera_classifier is not None:
            classifiers.append(("cam", self.cam_weight, self.camera_classifier, cameras))
        judged = []
        for name, loss_weight, layer, labels in classifiers:
            weight, bias = layer.weight, layer.bias
            logits = F.linear(
                pooled,
                weight if trained else weight.detach(),
                bias if trained else bias.detach(),
            )
            judged.append((name, loss_weight, logits.float(), labels))
        return judged
