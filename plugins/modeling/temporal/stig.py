"""Spatial-temporal-information-guided aggregation (STIG) of SADSTRM, arXiv 2307.03903.

The paper's abstract states the idea: the relation of local parts over space and time guides the
weights of each frame. The layers are this package's design.

Legend: B clips, T frames, C channels of the trunk, h x w its maps, C' those of the source stage,
K cells of a frame, D = ``dim``, R length of the relation.
"""

import torch
from fastreid.config import CfgNode, configurable
from torch import Tensor, nn

from plugins.errors import InputError
from plugins.modeling.diagnostics import log_scalar
from plugins.modeling.precision import no_autocast
from plugins.modeling.temporal.base import CenteredPart
from plugins.modeling.temporal.cells import cell_means, frame_changes, source_channels, with_first
from plugins.modeling.temporal.modality_norm import ModalityNorm
from plugins.modeling.temporal.recurrence import run_lstm
from plugins.modeling.temporal.watch import Watch
from plugins.registry import TEMPORAL

# Repetitions of the first step before a clip. A state that starts from zero differs from the later
# states alike in every clip: a fifth of the hidden variance would depend on the index alone.
SETTLING = 2
# A gate that is so near to 0 or 2, as a share of the way from 1, hardly has a gradient.
SATURATED = 0.95


@TEMPORAL.register()
class STIG(CenteredPart):
    """Weighs the channels of each frame by the relation of its cells over space and time.

    n = cells, m = their changes since the frame before, both normalized by the statistics of the
    modality, m_1 = m_2;
    p = ReLU(Linear(n)); s = p + BiLSTM(p) over the cells of a frame, head to feet;
    h = LSTM([s_t ; ReLU(Linear(m_t))]) over the frames, per cell, settled on the first step and
    normalized like the cells;
    w_t = 1 + tanh(gamma * norm(FC(ReLU(FC(h_t))))); r = mean over t of Linear(h_t);
    the feature is the mean over t of x_t * w_t, where x_t is frame t averaged over space, and
    behind it r, the relation, if there is one.

    A relation that reads changes alone has a separate LSTM, without s: appearance cannot satisfy
    its loss.

    gamma, one for each channel, starts at 0: at initialization the feature is exactly the temporal
    mean.

    Args:
        channels: C, channels of the last maps and length of the feature.
        source: stage whose maps are cut into cells.
        rows: rows of cells, head to feet.
        columns: columns of cells.
        dim: D, length of a cell's descriptor.
        guide_dim: hidden length of the guidance layer.
        relation_dim: R; 0: no relation after the feature.
        spatial: relate the cells of a frame; without it s = p.
        temporal: relate the frames of a cell; without it h = s.
        dropout: share of the normalized values that training sets to 0.
        changes_alone: the relation reads changes alone.
        norm: normalizes K cells of C' channels.
        change_norm: normalizes their changes.
        hidden_norm: normalizes K cells of D hidden values.
        gate_norm: normalizes C gates before the tanh.
        motion_norm: normalizes K cells of D hidden values of the relation of changes.

    Raises:
        InputError: ``dim`` is odd, so that the two directions of the BiLSTM cannot share it; or
            a relation shall read changes, and frames are not related.
    """

    @configurable
    def __init__(
        self,
        *,
        channels: int,
        source: str,
        rows: int,
        columns: int,
        dim: int,
        guide_dim: int,
        relation_dim: int,
        spatial: bool,
        temporal: bool,
        dropout: float,
        changes_alone: bool,
        norm: ModalityNorm,
        change_norm: ModalityNorm,
        hidden_norm: ModalityNorm,
        gate_norm: ModalityNorm,
        motion_norm: ModalityNorm,
    ):
        super().__init__()
        if spatial and dim % 2:
            raise InputError(f"MODEL.TEMPORAL.STIG.DIM: expected an even number, found {dim}")
        if changes_alone and not temporal:
            raise InputError(
                "MODEL.TEMPORAL.STIG.RELATION.READS: changes, found MODEL.TEMPORAL.STIG.TEMPORAL "
                "False; expected True, or READS cells"
            )
        cells = rows * columns
        width = norm.num_features // cells  # C'
        self.source = source
        self.rows = rows
        self.columns = columns
        self.relation_dim = relation_dim
        self.norm = norm
        self.dropout = nn.Dropout(dropout)
        self.describe = nn.Linear(width, dim)
        self.spatial = (
            nn.LSTM(dim, dim // 2, batch_first=True, bidirectional=True) if spatial else None
        )
        self.change_norm = change_norm if temporal else None
        self.describe_change = nn.Linear(width, dim) if temporal else None
        self.temporal = nn.LSTM(2 * dim, dim, batch_first=True) if temporal else None
        self.hidden_norm = hidden_norm
        self.guide = nn.Sequential(
            nn.Linear(cells * dim, guide_dim), nn.ReLU(), nn.Linear(guide_dim, channels, bias=False)
        )
        # Without a bias the gates of all clips have mean 1: no gate drifts to an end for all clips.
        self.gate_norm = gate_norm
        self.gate_norm.bias.requires_grad_(False)
        nn.init.zeros_(self.gate_norm.weight)
        self.relation = nn.Linear(cells * dim, relation_dim) if relation_dim else None
        reads_changes = bool(changes_alone and relation_dim)
        self.motion = nn.LSTM(dim, dim, batch_first=True) if reads_changes else None
        self.motion_norm = motion_norm if reads_changes else None
        self.gate_watch = Watch(type(self).__name__, "gate")
        self.relation_watch = Watch(type(self).__name__, "relation")

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Read ``MODEL.TEMPORAL.STIG`` and the trunk's channels."""
        stig = cfg.MODEL.TEMPORAL.STIG
        cells = stig.STRIPES * stig.COLUMNS
        channels = source_channels(cfg, stig.SOURCE)
        return {
            "channels": cfg.MODEL.BACKBONE.FEAT_DIM,
            "source": stig.SOURCE,
            "rows": stig.STRIPES,
            "columns": stig.COLUMNS,
            "dim": stig.DIM,
            "guide_dim": stig.GUIDE_DIM,
            "relation_dim": stig.RELATION.DIM,
            "spatial": stig.SPATIAL,
            "temporal": stig.TEMPORAL,
            "dropout": stig.DROPOUT,
            "changes_alone": stig.RELATION.READS == "changes",
            "norm": ModalityNorm.from_cfg(cfg, cells, channels),
            "change_norm": ModalityNorm.from_cfg(cfg, cells, channels),
            "hidden_norm": ModalityNorm.from_cfg(cfg, cells, stig.DIM),
            "gate_norm": ModalityNorm.from_cfg(cfg, 1, cfg.MODEL.BACKBONE.FEAT_DIM),
            "motion_norm": ModalityNorm.from_cfg(cfg, cells, stig.DIM),
        }

    def frame_features(
        self, maps: Tensor, modalities: Tensor, source_maps: Tensor | None = None
    ) -> Tensor:
        """See CenteredPart; returns (B, T, C + R), float32."""
        # Differences of neighboring frames are small: half precision would round them away.
        with no_autocast(maps.device):
            source_maps = maps if source_maps is None else source_maps
            cells = cell_means(source_maps.float(), self.rows, self.columns)
            changes = self.described_changes(cells, modalities)  # (B, T, K, D)
            hidden = self.relate(cells, changes, modalities).flatten(2)  # (B, T, K * D)
            opening = self.openings(hidden, modalities)
            relations = self.relations(hidden, changes, modalities)
            if self.is_watched:
                self.log(opening, relations, modalities)
            weighed = maps.float().mean(dim=(-2, -1)) * (1 + opening)  # (B, T, C)
            return weighed if relations is None else torch.cat([weighed, relations], dim=2)

    def openings(self, hidden: Tensor, modalities: Tensor) -> Tensor:
        """Compute w - 1 (B, T, C) of h (B, T, K * D)."""
        return self.gate_norm(self.guide(hidden).unsqueeze(2), modalities).squeeze(2).tanh()

    def gates(self, cells: Tensor, modalities: Tensor) -> Tensor:
        """Compute w (B, T, C) of cells (B, T, K, C') of clips of modalities (B,), float32."""
        with no_autocast(cells.device):
            changes = self.described_changes(cells, modalities)
            hidden = self.relate(cells, changes, modalities).flatten(2)
            return 1 + self.openings(hidden, modalities)

    def described_changes(self, cells: Tensor, modalities: Tensor) -> Tensor | None:
        """Compute ReLU(Linear(m)) (B, T, K, D) of cells (B, T, K, C'); None without a relation."""
        if self.change_norm is None or self.describe_change is None:
            return None
        changes = self.dropout(self.change_norm(frame_changes(cells), modalities))
        return self.describe_change(with_first(changes, cells.shape[1])).relu()

    def relate(self, cells: Tensor, changes: Tensor | None, modalities: Tensor) -> Tensor:
        """Compute h (B, T, K, D) from cells (B, T, K, C') and their described changes."""
        related = self.describe(self.dropout(self.norm(cells, modalities))).relu()
        if self.spatial is not None:
            # Added to the descriptors: the LSTM's small outputs alone would be lost in the changes.
            related = related + relate_cells(self.spatial, related)
        if self.temporal is not None:
            assert changes is not None, "related frames have changes"
            related = relate_frames(self.temporal, torch.cat([related, changes], dim=-1))
        return self.hidden_norm(related, modalities)

    def relations(
        self, hidden: Tensor, changes: Tensor | None, modalities: Tensor
    ) -> Tensor | None:
        """Compute the relation (B, T, R) of h (B, T, K * D) or of the changes; None without one."""
        if self.relation is None:
            return None
        if self.motion is not None and self.motion_norm is not None:
            assert changes is not None, "related frames have changes"
            hidden = self.motion_norm(relate_frames(self.motion, changes), modalities).flatten(2)
        return self.relation(hidden)

    @torch.no_grad()
    def log(self, opening: Tensor, relations: Tensor | None, modalities: Tensor) -> None:
        """Log the deviations of gate and relation, and the share of saturated gates."""
        self.gate_watch.see(1 + opening, modalities)
        log_scalar("temporal/gate_saturation", (opening.abs() > SATURATED).float().mean())
        if relations is not None:
            self.relation_watch.see(relations, modalities)


def relate_cells(lstm: nn.LSTM, described: Tensor) -> Tensor:
    """Relate the cells of p (B, T, K, D), same shape, each frame by itself."""
    return run_lstm(lstm, described.flatten(0, 1)).unflatten(0, described.shape[:2])


def relate_frames(lstm: nn.LSTM, steps: Tensor) -> Tensor:
    """Relate the frames of steps (B, T, K, D'), each cell by itself, to states (B, T, K, D)."""
    by_cell = steps.transpose(1, 2)  # (B, K, T, D')
    settling = by_cell[:, :, :1].expand(-1, -1, SETTLING, -1)
    sequences = torch.cat([settling, by_cell], dim=2).flatten(0, 1)
    hidden = run_lstm(lstm, sequences)[:, SETTLING:]
    return hidden.unflatten(0, by_cell.shape[:2]).transpose(1, 2)
