"""Clips of two modalities under attack: each frame mode on a small SADSTRM, in both directions."""

import functools

import pytest
import torch

from plugins.attacks import Adapter, Guides, Recipe, ThreatModel
from plugins.attacks.objectives import rank_margin
from plugins.attacks.per_query import FNA
from tests.helpers.attack_models import built
from tests.helpers.small_models import small_batch

EPS, FRAMES = 6.0, 4
MODES = {
    "dense": ThreatModel(eps=EPS),
    "shared": ThreatModel(eps=EPS, frames="shared"),
    "sparse 1": ThreatModel(eps=EPS, frames="sparse", sparse_frames=1),
    "sparse 2": ThreatModel(eps=EPS, frames="sparse", sparse_frames=2),
    "sparse 3": ThreatModel(eps=EPS, frames="sparse", sparse_frames=3),
    "smooth": ThreatModel(eps=EPS, frames="smooth", smooth_tau=1.0),
    "tied": ThreatModel(eps=EPS, infrared="tied"),
}


@pytest.fixture(scope="module")
def clips():
    """SADSTRM, and 4 people's clips of smooth noise: a visible one and an infrared one of each."""
    model, cfg = built("SADSTRM")
    batch = small_batch(frames=FRAMES)
    looks = batch["images"][:4].mean(dim=1, keepdim=True)
    images = torch.cat([looks, looks]) + 0.3 * (batch["images"] - 128)
    images[4:] = images[4:].mean(dim=2, keepdim=True)
    batch["images"] = images.clamp(0, 255).round()
    return Adapter(model, cfg), batch


def direction(clips, infrared):
    """Queries of one modality, and their guides from the other."""
    adapter, batch = clips
    with torch.no_grad():
        features = adapter(batch)
    query, gallery = (slice(4, 8), slice(0, 4)) if infrared else (slice(0, 4), slice(4, 8))
    labels = [batch[key][side] for key in ("targets", "camids") for side in (query, gallery)]
    guides = Guides.from_features(
        features[query], features[gallery], *labels, metric="cosine", junk="none"
    )
    return adapter, {key: values[query] for key, values in batch.items()}, guides


@pytest.fixture(scope="module")
def attacked(clips):
    """(mode, infrared) to the attacked batch's outcome; each is made once."""

    @functools.cache
    def run(mode, infrared):
        adapter, batch, guides = direction(clips, infrared)
        return FNA(MODES[mode], Recipe(steps=2, step_size=4.0)).run(adapter, batch, guides)

    return run


@pytest.mark.slow
@pytest.mark.parametrize("infrared", [False, True], ids=["V2I", "I2V"])
@pytest.mark.parametrize("mode", MODES)
def test_each_mode_changes_what_it_may_and_misleads_the_search(clips, attacked, mode, infrared):
    adapter, batch, guides = direction(clips, infrared)
    outcome = attacked(mode, infrared)
    delta = outcome.batch["images"] - batch["images"]
    assert delta.abs().max() <= EPS + 1e-4
    touched = delta.abs().amax(dim=(2, 3, 4)) > 0
    assert (touched.sum(dim=1) == (int(mode[-1]) if "sparse" in mode else FRAMES)).all()
    jumps = delta.diff(dim=1).abs().max()
    assert jumps <= {"shared": 1e-4, "smooth": 1 + 1e-3}.get(mode, 2 * EPS)
    colours = (delta - delta.mean(dim=2, keepdim=True)).abs().max()
    assert (colours < 1e-4) == (mode == "tied" and infrared)
    with torch.no_grad():
        features = adapter(outcome.batch)
    torch.testing.assert_close(rank_margin(features, guides), outcome.margin, atol=1e-5, rtol=1e-4)
    assert outcome.objective.mean() > FNA.objective(guides.clean, guides).mean()


@pytest.mark.parametrize("infrared", [False, True], ids=["V2I", "I2V"])
def test_the_more_frames_a_mode_allows_the_more_it_gains(clips, attacked, infrared):
    guides = direction(clips, infrared)[2]
    clean = FNA.objective(guides.clean, guides).mean()
    gains = [
        attacked(mode, infrared).objective.mean() - clean
        for mode in ("sparse 1", "sparse 2", "sparse 3", "dense")
    ]
    assert gains == sorted(gains) and gains[0] < gains[-1] / 1.5
