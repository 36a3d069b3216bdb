"""Group A: does the harness attack the model that is ranked, and only within the budget?"""

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from plugins.attacks import PerturbationSet
from plugins.attacks.features import attacking, row_groups
from plugins.attacks.projections import to_uint8
from plugins.robustness.checks.check import check
from plugins.robustness.checks.verdict import FAIL, PASS, WARN, Verdict, at_least, at_most, skipped
from plugins.robustness.fingerprint import hash_weights
from plugins.robustness.levels import REFERENCE_ATTACK
from plugins.robustness.runner import AttackRunner, relative_change
from plugins.utils.images import decode_image

# float32 holds 255 to 1.5e-5, and a norm over 1e6 pixels to some 1e-3.
ROUNDING = 1e-3
# Another batch size rounds a forward pass differently, by some 1e-6; another view of an image or
# another neck changes a feature by 1e-2 and more.
SAME_FEATURE, OTHER_FEATURE = 1e-4, 1e-2
# Correlation of two gradients: float32 leaves .999 and more of a right one.
RIGHT_GRADIENT, WRONG_GRADIENT = 0.98, 0.9
# Lengths of finite differences in gray levels: rounding disturbs a short one, the curvature of the
# model a long one. A right gradient agrees at one of the lengths, a wrong one at none.
LENGTHS = (0.01, 0.05, 0.2, 0.5, 1.0)
DIRECTIONS = 8
# Below half of the budget the attack hardly used it; below a tenth it did not attack.
USED, UNUSED = 0.5, 0.1
# Uniform noise within an L-inf budget has a mean perturbation of half of it. The steps of an attack
# that starts there must add ADDED.
NOISE, ADDED, NOT_ADDED = 0.5, 0.1, 0.02
RISES, HARDLY_RISES = 0.95, 0.5
# Least rise of an objective, as a share of its size: rounding alone makes some 1e-6.
LEAST_RISE = 1e-5
RANDOM = "The forward pass is random; see the check 'deterministic'."


@check("zero_budget", "A", "Does an attack with eps 0 change nothing?")
def zero_budget(runner: AttackRunner) -> Verdict:
    """Attack within eps 0."""
    batch, guides = runner.sample
    attack = runner.make_attack(REFERENCE_ATTACK, eps=0.0, steps=3, restarts=1)
    attacked = attack.run(runner.adapter, batch, guides)
    change = float((attacked.images - batch["images"]).abs().max())
    explanation = f"Largest change of a pixel with eps 0: {change:.3g} gray levels."
    return at_most(change, 0, 0, "gray levels", explanation)


@check("within_budget", "A", "Are attacked images within the budget, also as PNG files?")
def within_budget(runner: AttackRunner) -> Verdict:
    """Measure each attack's perturbations; for a sample also frames, channels and PNG files."""
    batch, clean = runner.sample[0], runner.sample[0]["images"]
    excess = {}
    for name, stats in runner.run_level().items():
        attacked = runner.attacked_sample(name)
        written = through_png(to_uint8(attacked, clean.round())).to(clean)
        sizes = [size_of(runner, batch, images) for images in (attacked, written)]
        largest = max(*sizes, float(stats.max_perturbation.max()))
        excess[name] = max(largest - runner.threat.eps, outside(runner, batch, attacked), 0.0)
    worst = max(excess, key=lambda name: excess[name])
    explanation = (
        f"Largest excess over the budget, before and after saving as PNG: {excess[worst]:.3g} gray "
        f"levels ({worst})."
    )
    return at_most(excess[worst], ROUNDING, ROUNDING, "gray levels", explanation)


@check("same_features", "A", "Is the attacked model the evaluated one?")
def same_features(runner: AttackRunner) -> Verdict:
    """Compare the attacked forward pass with the features that the evaluator ranked."""
    if not runner.deterministic:
        return skipped(RANDOM)
    batch, guides = runner.sample
    with torch.no_grad():
        change = relative_change(runner.adapter(batch), guides.clean)
    explanation = (
        "Largest relative difference between the attacked model's features and the ranked ones: "
        f"{change:.2g}."
    )
    return at_most(change, SAME_FEATURE, OTHER_FEATURE, "of the feature's length", explanation)


@check("no_side_effects", "A", "Does an attack leave model and batch unchanged?")
def no_side_effects(runner: AttackRunner) -> Verdict:
    """Compare parameters, buffers, batch and gradients before and after an attack."""
    batch, guides = runner.sample
    model, before = runner.adapter.model, hash_weights(runner.adapter.model)
    copies = {key: value.clone() for key, value in batch.items() if torch.is_tensor(value)}
    attack = runner.make_attack(REFERENCE_ATTACK, steps=2, restarts=1)
    attack.run(runner.adapter, batch, guides)
    unchanged = {
        "parameters or buffers": hash_weights(model) == before,
        "the batch": all(torch.equal(batch[key], copies[key]) for key in copies),
        "parameter gradients": all(p.grad is None for p in model.parameters()),
    }
    changed = [name for name, same in unchanged.items() if not same]
    explanation = (
        f"An attack changed {len(changed)} of {len(unchanged)} things that it must not change "
        f"({', '.join(changed or unchanged)})."
    )
    return at_most(len(changed), 0, 0, "things", explanation)


@check("right_gradient", "A", "Does the gradient match finite differences?")
def right_gradient(runner: AttackRunner) -> Verdict:
    """Correlate autograd with finite differences of each row along random directions of the image.

    The differentiated value is a random direction of the feature, so that no objective is involved.
    A model that rounds or otherwise prepares its input has another gradient than its finite
    differences.
    """
    if not runner.deterministic:
        return skipped(RANDOM)
    expected, measured = directional_derivatives(runner)
    if not expected.any() and not measured.any():
        explanation = "The feature does not depend on the image at all: correlation 0."
        return Verdict(FAIL, explanation, 0.0, "correlation")
    correlation = max(-1.0, *(cosine(expected, differences) for differences in measured))
    explanation = f"Correlation of autograd with finite differences: {correlation:.4f}."
    if correlation < WRONG_GRADIENT:
        explanation += " The model's input stage is not differentiable: use BPDA."
    return at_least(correlation, RIGHT_GRADIENT, WRONG_GRADIENT, "correlation", explanation)


def directional_derivatives(runner: AttackRunner) -> tuple[Tensor, Tensor]:
    """Differentiate a random direction of the feature along random directions of the image.

    Returns:
        By autograd (V,) for V values, and by finite differences (LENGTHS, V), one row a length.
    """
    batch, guides = runner.sample
    generator = torch.Generator().manual_seed(runner.cfg.ATTACK.SEED)
    weights = torch.randn(guides.clean.shape, generator=generator).double()
    images = batch["images"].float()

    def values(images: Tensor) -> Tensor:
        return (runner.adapter({**batch, "images": images}).cpu().double() * weights).sum(dim=1)

    with attacking(runner.adapter.model):
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
        expected = sums.new_zeros(DIRECTIONS, len(weights)).index_add_(1, groups, sums).flatten()
        measured = []
        with torch.no_grad():
            for length in LENGTHS:
                gaps = [
                    values(images + length * d) - values(images - length * d) for d in directions
                ]
                measured.append(torch.cat(gaps).to(expected) / (2 * length))
    return expected, torch.stack(measured)


@check("budget_used", "A", "Did every attack use its budget?")
def budget_used(runner: AttackRunner) -> Verdict:
    """Judge the mean perturbation of the attack that used least of its budget."""
    verdicts = []
    for name, stats in runner.run_level().items():
        used = float(stats.mean_perturbation.double().mean()) / changed_share(runner)
        explanation = f"Smallest mean perturbation: {used:.2f} eps ({name})"
        limits = USED, UNUSED
        if runner.make_attack(name).recipe.random_start and runner.threat.norm == "linf":
            explanation += f"; a random start alone gives {NOISE} eps"
            limits = NOISE + ADDED, NOISE + NOT_ADDED
        verdicts.append((used, at_least(used, *limits, "eps", f"{explanation}.")))
    return min(verdicts, key=lambda pair: ((FAIL, WARN, PASS).index(pair[1].state), pair[0]))[1]


@check("reach", "A", "Can every attack reach the edge of its budget?")
def reach(runner: AttackRunner) -> Verdict:
    """Compare steps times step size with eps, for the attack with the shortest reach."""
    reaches = {
        name: runner.make_attack(name).recipe.reach / runner.threat.eps
        for name in runner.level.attacks
    }
    least = min(reaches, key=lambda name: reaches[name])
    state = PASS if reaches[least] >= 1 else WARN
    explanation = f"Shortest reach, all steps together: {reaches[least]:.3g} eps ({least})."
    return Verdict(state, explanation, reaches[least], "eps")


@check("objective_rises", "A", "Does every attack raise its objective?")
def objective_rises(runner: AttackRunner) -> Verdict:
    """Judge the share of queries whose objective rose or whose Rank-1 failed."""
    shares = {}
    for name, stats in runner.run_level().items():
        broken = runner.clean_scores.hit & (stats.margin > 0)
        rise = stats.objective - stats.start
        rose = (rise > LEAST_RISE * stats.start.abs()) | broken
        shares[name] = float(rose.double().mean())
    least = min(shares, key=lambda name: shares[name])
    explanation = (
        "Smallest share of queries whose objective rose or whose Rank-1 failed: "
        f"{100 * shares[least]:.1f} % ({least})."
    )
    return at_least(shares[least], RISES, HARDLY_RISES, "share", explanation)


def through_png(images: Tensor) -> Tensor:
    """Write images (..., 3, H, W) uint8 as PNG, and read them again."""
    read = []
    for image in images.flatten(0, -4):
        file = io.BytesIO()
        Image.fromarray(image.permute(1, 2, 0).cpu().numpy()).save(file, format="PNG")
        read.append(torch.from_numpy(np.array(decode_image(file, "a PNG file"))).permute(2, 0, 1))
    return torch.stack(read).view(images.shape)


def size_of(runner: AttackRunner, batch: dict, images: Tensor) -> float:
    """Compute the largest perturbation of a batch in the threat's norm."""
    allowed = PerturbationSet(runner.threat, batch)
    delta = images.view(allowed.clean.shape) - allowed.clean
    if runner.threat.norm == "linf":
        return float(delta.abs().max())
    return float(allowed.row_norms(delta).max())


def outside(runner: AttackRunner, batch: dict, images: Tensor) -> float:
    """Compute how far a pixel leaves the allowed frames, channels and budget, in gray levels."""
    allowed = PerturbationSet(runner.threat, batch)
    clips = images.view(allowed.clean.shape)
    if not allowed.frames_selected:
        allowed = allowed.select_frames(clips - allowed.clean)
    return float((allowed.project(clips) - clips).abs().max())


def changed_share(runner: AttackRunner) -> float:
    """Return the share of a clip's frames that an attack may change."""
    frames = PerturbationSet(runner.threat, runner.sample[0]).clean.shape[1]
    return min(runner.threat.sparse_frames / frames, 1) if runner.threat.frames == "sparse" else 1.0


def cosine(first: Tensor, second: Tensor) -> float:
    """Compute the cosine of two vectors; 0 if one of them is 0."""
    return float(first @ second / (first.norm() * second.norm()).clamp_min(1e-30))
