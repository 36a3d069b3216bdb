"""The adversarial game of DDDefense that makes attacked features look like clean ones.

    min_E max_D  E log D(E(x)) + E log(1 - D(E(x_adv)))        (arXiv 2511.09933)

Legend: B features in the batch, D their length. D(f) is the probability that f comes from a clean
image, the sigmoid of a logit. Everything is computed from logits and in float32, so that no
logarithm overflows and no loss needs scaling under mixed precision.

Features before a BNNeck share a mean ten times as long as their differences, and the discriminator
learns nothing from such features. So it standardizes them first, by the batches of its last step.

The encoder compares each image with its own attacked copy (after relativistic GANs,
Jolicoeur-Martineau, arXiv 1807.00734). -log D(E(x_adv)) alone also falls if all features move
alike, which makes nothing invariant, and nearly all of its gradient points that way (see
``projects/dddefense``).
"""

import torch
import torch.nn.functional as F
from fastreid.config import CfgNode
from torch import Tensor, nn

from plugins.engine.distributed import average_buffers, average_gradients, broadcast_model
from plugins.modeling.freeze import frozen_parameters


def game_value(clean_logits: Tensor, attacked_logits: Tensor) -> Tensor:
    """Compute E log D(E(x)) + E log(1 - D(E(x_adv))) in nats, from logits (B,) each; at most 0."""
    return F.logsigmoid(clean_logits).mean() + F.logsigmoid(-attacked_logits).mean()


def paired_loss(clean_logits: Tensor, attacked_logits: Tensor) -> Tensor:
    """Average -log sigmoid(attacked - clean) over images, from logits (B,) each; in nats.

    Adding the same to both logits of an image changes nothing; equal logits give log 2.
    """
    return -F.logsigmoid(attacked_logits - clean_logits).mean()


class Standardizer(nn.Module):
    """Standardizes features (B, D) by mean and deviation of the features last measured."""

    mean: Tensor
    variance: Tensor

    def __init__(self, dim: int) -> None:
        """Change nothing until something is measured."""
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("variance", torch.ones(dim))

    @torch.no_grad()
    def measure(self, features: Tensor) -> None:
        """Measure mean and variance of (B, D) features over all ranks, with B in each."""
        features = features.to(self.mean)
        self.mean.copy_(features.mean(dim=0))
        average_buffers(self)
        self.variance.copy_((features - self.mean).square().mean(dim=0))
        average_buffers(self)

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape."""
        return (features - self.mean) * (self.variance + 1e-5).rsqrt()


class Discriminator:
    """Holds an MLP D - hidden - 1 and its Adam; one ``step`` precedes each encoder update.

    Weights, statistics and optimizer are in ``state_dict``. The ranks start from rank 0's weights
    and average their gradients.

    Attributes:
        network: features (B, D) to logits (B, 1); its first layer is a Standardizer.
        saturating: whether the encoder descends the game's value itself, whose gradient vanishes
            when the discriminator is sure; else it descends :func:`paired_loss`.
    """

    def __init__(
        self,
        dim: int,
        *,
        hidden: int,
        lr: float,
        saturating: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        """Build network and optimizer; the weights are drawn from torch's global generator.

        Args:
            dim: D.
            hidden: width of the hidden layer.
            lr: learning rate of Adam.
            saturating: see the attribute.
            device: device of the features.
        """
        self.standardizer = Standardizer(dim)
        self.network = nn.Sequential(
            self.standardizer,
            nn.Linear(dim, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 1),
        )
        self.network.to(device)
        broadcast_model(self.network)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=lr)
        self.saturating = saturating

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "Discriminator":
        """Read ``DEFENSE.DISCRIMINATOR``; its features are those that a triplet loss sees."""
        settings, model = cfg.DEFENSE.DISCRIMINATOR, cfg.MODEL
        before_neck = model.HEADS.NECK_FEAT == "before" or not model.HEADS.EMBEDDING_DIM
        return cls(
            model.BACKBONE.FEAT_DIM if before_neck else model.HEADS.EMBEDDING_DIM,
            hidden=settings.HIDDEN,
            lr=settings.BASE_LR,
            saturating=settings.SATURATING,
            device=model.DEVICE,
        )

    def logits(self, features: Tensor) -> Tensor:
        """Compute logits (B,) of features (B, D), in the network's own precision."""
        with torch.autocast(features.device.type, enabled=False):
            return self.network(features.to(next(self.network.parameters()).dtype))[:, 0]

    def step(self, clean: Tensor, attacked: Tensor) -> Tensor:
        """Update the discriminator once; the encoder gets no gradient.

        Args:
            clean: E(x), (B, D).
            attacked: E(x_adv), (B, D).

        Returns:
            The loss before the update, which is minus the game's value; 2 log 2 for a
            discriminator that knows nothing.
        """
        self.optimizer.zero_grad()
        clean, attacked = clean.detach(), attacked.detach()
        self.standardizer.measure(torch.cat([clean, attacked]))
        loss = -game_value(self.logits(clean), self.logits(attacked))
        loss.backward()
        average_gradients(self.network.parameters())
        self.optimizer.step()
        return loss.detach()

    def encoder_loss(self, clean: Tensor, attacked: Tensor) -> Tensor:
        """Compute L_E, a scalar for the encoder to descend; the discriminator gets no gradient.

        Args:
            clean: E(x), (B, D).
            attacked: E(x_adv), (B, D), in the same order.
        """
        loss = game_value if self.saturating else paired_loss
        with frozen_parameters(self.network.parameters()):
            return loss(self.logits(clean), self.logits(attacked))

    def state_dict(self) -> dict:
        """Return the weights and Adam's moments."""
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        """Restore a ``state_dict``."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
