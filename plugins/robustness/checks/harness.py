"""Group A: does the harness attack the model that is ranked, and only within the budget?"""

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from plugins.attacks import PerturbationSet
from plugins.attacks.features import attacking, row_groups
from plugins.attacks.projections import to_uint8
from plugins.robustness.checks.verdict import FAIL, PASS, WARN, Verdict, at_least, at_most, skipped
from plugins.robustness.lab import MEASURE, Lab, relative_change
from plugins.robustness.records import hash_weights
from plugins.utils.images import decode_image

# float32 holds 255 to 1.5e-5, and a norm over 1e6 pixels to some 1e-3.
ROUNDING = 1e-3
# Another batch size rounds a forward pass differently, by some 1e-6; another view of an image or
# another neck changes a feature by 1e-2 and more.
SAME_FEATURE, OTHER_FEATURE = 1e-4, 1e-2
# Correlation of two gradients: float32 leaves .999 and more of a right one.
RIGHT_GRADIENT, WRONG_GRADIENT = 0.98, 0.9
# Lengths of finite differences, grey levels: with a short one rounding disturbs, with a long one
# the model's curvature. A right gradient agrees at one of them, a wrong one at none.
LENGTHS = (0.01, 0.05, 0.2, 0.5, 1.0)
DIRECTIONS = 8
# Below half of the budget the attack hardly used it; below a tenth it did not attack.
MOVED, UNMOVED = 0.5, 0.1
# Noise that is uniform within an L-inf budget moves pixels by half of it; and what the steps of an
# attack that begins there must add.
NOISE, ADDED, NOT_ADDED = 0.5, 0.1, 0.02
RISES, HARDLY_RISES = 0.95, 0.5
# Random forward passes are told apart from rounding.
DETERMINISTIC = 1e-5


def zero_budget(lab: Lab) -> Verdict:
    """Attack within eps 0."""
    batch, guides = lab.sample
    attacked = lab.attack(MEASURE, eps=0.0, steps=3, restarts=1).run(lab.adapter, batch, guides)
    change = float((attacked.images - batch["images"]).abs().max())
    return at_most(change, 0, 0, "grey levels", "largest change of a pixel with eps 0")


def budget(lab: Lab) -> Verdict:
    """Measure each attack's perturbations; of a few images also their frames, channels and PNGs."""
    batch, clean = lab.sample[0], lab.sample[0]["images"]
    beyond = {}
    for name, outcomes in lab.attacks().items():
        attacked = lab.attack(name, restarts=1).run(lab.adapter, *lab.sample).images
        written = through_png(to_uint8(attacked, clean.round())).to(clean)
        sizes = [size_of(lab, batch, images) for images in (attacked, written)]
        excess = max(*sizes, float(outcomes.reached.max())) - lab.threat.eps
        beyond[name] = max(excess, outside(lab, batch, attacked), 0.0)
    most = max(beyond, key=beyond.get)
    sentence = f"beyond the budget is a perturbation of {most}, before and after PNG files"
    return at_most(beyond[most], ROUNDING, ROUNDING, "grey levels", sentence)


def same_forward(lab: Lab) -> Verdict:
    """Compare the attacked forward pass with the features that the evaluator ranked."""
    if lab.forward_change() > DETERMINISTIC:
        return skipped("the model's forward pass is random, so no two agree")
    batch, guides = lab.sample
    with torch.no_grad():
        change = relative_change(lab.adapter(batch), guides.clean)
    sentence = "relative difference between the attacked model's features and the ranked ones"
    return at_most(change, SAME_FEATURE, OTHER_FEATURE, "of the feature's length", sentence)


def untouched(lab: Lab) -> Verdict:
    """Hash parameters and buffers before and after an attack, compare the batch, look for grads."""
    batch, guides = lab.sample
    model, before = lab.adapter.model, hash_weights(lab.adapter.model)
    copies = {key: value.clone() for key, value in batch.items() if torch.is_tensor(value)}
    lab.attack(MEASURE, steps=2, restarts=1).run(lab.adapter, batch, guides)
    changed = [
        name
        for name, same in (
            ("parameters or buffers", hash_weights(model) == before),
            ("the batch", all(torch.equal(batch[key], copies[key]) for key in copies)),
            ("parameter gradients", all(p.grad is None for p in model.parameters())),
        )
        if not same
    ]
    sentence = "changed by an attack: " + (", ".join(changed) or "nothing")
    return at_most(len(changed), 0, 0, "things", sentence)


def gradient(lab: Lab) -> Verdict:
    """Correlate autograd with finite differences of each row along random directions of the image.

    What is derived is a random direction of the feature, so that no objective is involved. A model
    that rounds or otherwise prepares its input has another gradient than its finite differences.
    """
    if lab.forward_change() > DETERMINISTIC:
        return skipped("the model's forward pass is random; see the group C check")
    batch, guides = lab.sample
    generator = torch.Generator().manual_seed(lab.cfg.ATTACK.SEED)
    towards = torch.randn(guides.clean.shape, generator=generator).double()
    images = batch["images"].float()

    def values(of: Tensor) -> Tensor:
        return (lab.adapter({**batch, "images": of}).cpu().double() * towards).sum(dim=1)

    with attacking(lab.adapter.model):
        leaf = images.clone().requires_grad_()
        (slope,) = torch.autograd.grad(values(leaf).sum(), leaf)
        slope = slope.double()
        # No direction along the gradient: at many pixels it would outweigh all others together.
        directions = [
            torch.randint(0, 2, images.shape, generator=generator).to(images) * 2 - 1
            for _ in range(DIRECTIONS)
        ]
        sums = torch.stack([(slope * d).flatten(1).sum(dim=1) for d in directions]).cpu()
        groups = row_groups(batch)[0]
        expected = sums.new_zeros(DIRECTIONS, len(towards)).index_add_(1, groups, sums).flatten()
        agreement, found = -1.0, 0.0
        with torch.no_grad():
            for length in LENGTHS:
                gaps = [
                    values(images + length * d) - values(images - length * d) for d in directions
                ]
                seen = torch.cat(gaps).to(expected) / (2 * length)
                found = max(found, float(seen.abs().max()))
                agreement = max(agreement, cosine(expected, seen))
    if found == 0 and not expected.any():
        return Verdict(FAIL, "the feature does not depend on the image at all", 0.0, "correlation")
    sentence = "correlation of autograd with finite differences"
    if agreement < WRONG_GRADIENT:
        sentence += "; the way through the model's input stage is not differentiable: use BPDA"
    return at_least(agreement, RIGHT_GRADIENT, WRONG_GRADIENT, "correlation", sentence)


def moved(lab: Lab) -> Verdict:
    """The mean perturbation of the attack that moved least."""
    verdicts = []
    for name, outcomes in lab.attacks().items():
        used = float(outcomes.moved.double().mean()) / changed_share(lab)
        sentence = f"of eps is the mean perturbation of {name}"
        if lab.attack(name).recipe.random_start and lab.threat.norm == "linf":
            sentence += f", of which a random start makes {NOISE}"
            verdicts.append(at_least(used, NOISE + ADDED, NOISE + NOT_ADDED, "eps", sentence))
        else:
            verdicts.append(at_least(used, MOVED, UNMOVED, "eps", sentence))
    return min(verdicts, key=lambda one: ((FAIL, WARN, PASS).index(one.state), one.figure))


def long_enough(lab: Lab) -> Verdict:
    """Steps times step size, in eps, of the attack that reaches least far."""
    reach = {name: lab.attack(name).recipe.reach / lab.threat.eps for name in lab.level.attacks}
    least = min(reach, key=reach.get)
    state = PASS if reach[least] >= 1 else WARN
    return Verdict(state, f"the steps of {least} together", reach[least], "eps")


def rises(lab: Lab) -> Verdict:
    """The share of queries for which the objective rose or Rank-1 failed, of the worst attack."""
    shares = {}
    for name, outcomes in lab.attacks().items():
        broken = lab.clean.hit & (outcomes.margin > 0)
        rose = (outcomes.objective > outcomes.start) | broken
        shares[name] = float(rose.double().mean())
    least = min(shares, key=shares.get)
    sentence = f"of the queries saw the objective of {least} rise from where it began"
    return at_least(shares[least], RISES, HARDLY_RISES, "share", sentence)


def through_png(images: Tensor) -> Tensor:
    """Images (..., 3, H, W) uint8, written as PNG and read again."""
    read = []
    for image in images.flatten(0, -4):
        file = io.BytesIO()
        Image.fromarray(image.permute(1, 2, 0).cpu().numpy()).save(file, format="PNG")
        read.append(torch.from_numpy(np.array(decode_image(file, "a PNG file"))).permute(2, 0, 1))
    return torch.stack(read).view(images.shape)


def size_of(lab: Lab, batch: dict, images: Tensor) -> float:
    """Largest perturbation of a batch in the threat's norm."""
    allowed = PerturbationSet(lab.threat, batch)
    delta = images.view(allowed.clean.shape) - allowed.clean
    if lab.threat.norm == "linf":
        return float(delta.abs().max())
    return float(allowed.row_norms(delta).max())


def outside(lab: Lab, batch: dict, images: Tensor) -> float:
    """How far a pixel is from what frames, channels and budget allow, grey levels."""
    allowed = PerturbationSet(lab.threat, batch)
    clips = images.view(allowed.clean.shape)
    if not allowed.frames_selected:
        allowed = allowed.select_frames(clips - allowed.clean)
    return float((allowed.project(clips) - clips).abs().max())


def changed_share(lab: Lab) -> float:
    """Share of a clip's frames that an attack may change."""
    frames = PerturbationSet(lab.threat, lab.sample[0]).clean.shape[1]
    return min(lab.threat.sparse_frames / frames, 1) if lab.threat.frames == "sparse" else 1.0


def cosine(first: Tensor, second: Tensor) -> float:
    """Cosine of two vectors; 0 if one of them is 0."""
    return float(first @ second / (first.norm() * second.norm()).clamp_min(1e-30))
