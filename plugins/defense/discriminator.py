"""The game of DDDefense (arXiv 2511.09933) that makes attacked features look like clean ones.

    min_E max_D  E log D(E(x)) + E log(1 - D(E(x_adv)))

Legend: B features in the batch, D their length. D(f) is the probability that f is of a clean image,
the sigmoid of a logit. Everything is computed from logits and in float32, so that no logarithm
overflows and no loss needs scaling under mixed precision.

Features before a BNNeck share a mean ten times as long as what tells them apart, and of that D
learns nothing; so it standardises them first, by the batches of its last step.

The encoder compares each image with its own attacked copy (after relativistic GANs,
Jolicoeur-Martineau, arXiv 1807.00734): -log D(E(x_adv)) alone also falls where all features move
alike, which makes nothing invariant, and that is nearly all of its gradient (see
``projects/dddefense``).
"""

import torch
import torch.nn.functional as F
from fastreid.config import CfgNode
from torch import Tensor, nn

from plugins.engine.distributed import average_buffers, average_gradients, broadcast_model
from plugins.errors import InputError
from plugins.modeling.freeze import frozen_parameters


def game_value(clean_logits: Tensor, attacked_logits: Tensor) -> Tensor:
    """E log D(E(x)) + E log(1 - D(E(x_adv))) in nats, from logits (B,) each; at most 0."""
    return F.logsigmoid(clean_logits).mean() + F.logsigmoid(-attacked_logits).mean()


def paired_loss(clean_logits: Tensor, attacked_logits: Tensor) -> Tensor:
    """Mean of -log sigmoid(attacked - clean) over images, from logits (B,) each, row by row; nats.

    What adds the same to both logits of an image changes nothing; log 2 where they are equal.
    """
    return -F.logsigmoid(attacked_logits - clean_logits).mean()


class Standardiser(nn.Module):
    """Features (B, D) less a mean, divided by a deviation: those of the features last measured."""

    def __init__(self, dim: int) -> None:
        """Change nothing until something is measured."""
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("variance", torch.ones(dim))

    @torch.no_grad()
    def measure(self, features: Tensor) -> None:
        """Take mean and variance of (B, D) features, of all ranks together, B in each."""
        features = features.to(self.mean)
        self.mean.copy_(features.mean(dim=0))
        average_buffers(self)
        self.variance.copy_((features - self.mean).square().mean(dim=0))
        average_buffers(self)

    def forward(self, features: Tensor) -> Tensor:
        """Same shape."""
        return (features - self.mean) * (self.variance + 1e-5).rsqrt()


class Discriminator:
    """An MLP D - hidden - 1 with its Adam; one ``step`` comes before each update of the encoder.

    Weights, statistics and optimizer are in ``state_dict``. The ranks start from rank 0's weights
    and average their gradients.

    Attributes:
        network: features (B, D) to logits (B, 1); its first layer is a Standardiser.
        saturating: the encoder descends the game's value itself, which takes the gradient away when
            the discriminator is sure; else :func:`paired_loss`.
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
            device: where the features will be.
        """
        self.network = nn.Sequential(
            Standardiser(dim),
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
        """Read ``DEFENSE.DISCRIMINATOR``; its features are the head's, which a triplet sees.

        Raises:
            InputError: a number is out of its range.
        """
        settings, model = cfg.DEFENSE.DISCRIMINATOR, cfg.MODEL
        for key in ("HIDDEN", "BASE_LR"):
            if not settings[key] > 0:
                raise InputError(
                    f"DEFENSE.DISCRIMINATOR.{key}: {settings[key]}; expected more than 0"
                )
        before_neck = model.HEADS.NECK_FEAT == "before" or not model.HEADS.EMBEDDING_DIM
        return cls(
            model.BACKBONE.FEAT_DIM if before_neck else model.HEADS.EMBEDDING_DIM,
            hidden=settings.HIDDEN,
            lr=settings.BASE_LR,
            saturating=settings.SATURATING,
            device=model.DEVICE,
        )

    def logits(self, features: Tensor) -> Tensor:
        """Features (B, D) to logits (B,) in the network's own precision, also under autocast."""
        with torch.autocast(features.device.type, enabled=False):
            return self.network(features.to(next(self.network.parameters()).dtype))[:, 0]

    def step(self, clean: Tensor, attacked: Tensor) -> Tensor:
        """One update of the discriminator; the encoder gets no gradient.

        Args:
            clean: E(x), (B, D).
            attacked: E(x_adv), (B, D).

        Returns:
            Its loss before the update, minus the game's value; 2 log 2 where it knows nothing.
        """
        self.optimizer.zero_grad()
        clean, attacked = clean.detach(), attacked.detach()
        self.network[0].measure(torch.cat([clean, attacked]))
        loss = -game_value(self.logits(clean), self.logits(attacked))
        loss.backward()
        average_gradients(self.network.parameters())
        self.optimizer.step()
        return loss.detach()

    def encoder_loss(self, clean: Tensor, attacked: Tensor) -> Tensor:
        """L_E, a scalar for the encoder to descend; the discriminator gets no gradient.

        Args:
            clean: E(x), (B, D).
            attacked: E(x_adv), (B, D), in the same order.
        """
        loss = game_value if self.saturating else paired_loss
        with frozen_parameters(self.network.parameters()):
            return loss(self.logits(clean), self.logits(attacked))

    def state_dict(self) -> dict:
        """Weights and Adam's moments."""
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        """Restore what ``state_dict`` gave."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
