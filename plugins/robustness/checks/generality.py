"""Group D: does the figure hold in circumstances that it was not measured in?

A figure that does not is right all the same, so these checks warn and never fail.
"""

from torch import Tensor

from plugins.attacks.objectives import rank_margin
from plugins.robustness.checks.harness import changed_share
from plugins.robustness.checks.retrieval import UNEVEN, WIDE
from plugins.robustness.checks.verdict import PASS, WARN, Verdict, skipped
from plugins.robustness.lab import MEASURE, Lab, rank_1
from plugins.robustness.outcomes import Scores
from plugins.robustness.scenes import Scene
from plugins.robustness.threats import (
    LIGHT,
    PATCH_SHARE,
    Light,
    Patch,
    SmallGallery,
    equal_volume_radius,
)

# Shares of the gallery's other people.
SHARES = (1 / 2, 1 / 4)
# Trainings below which there is nothing to say about a way of training.
TRAININGS = 3
NOTHING = "clean Rank-1 is 0 %{}, so an attack has nothing to lower"


def mirrors(lab: Lab) -> Verdict:
    """Turn TEST.FLIP the other way round, and attack that anew."""
    other = lab.scene.mirrored()
    words = "without" if lab.cfg.TEST.FLIP.ENABLED else "with"
    if nothing_to_lower(lab, lab.scene, other):
        return skipped(NOTHING.format(" with and without mirror images"))
    attacked = lab.run(MEASURE, lab.attack(MEASURE), scene=other)
    return beside(
        lab, rank_1(attacked), f"{words} mirror images, clean {clean_of(lab, other):.1f} %"
    )


def reranking(lab: Lab) -> Verdict:
    """Re-rank the lists of the attacked queries; the attack itself knows the plain lists only."""
    options = lab.cfg.TEST.RERANK
    if not options.ENABLED:
        return skipped("lists are not re-ranked: TEST.RERANK.ENABLED True")
    parameters = {"k1": options.K1, "k2": options.K2, "lambda_value": options.LAMBDA}
    attacked, plain = lab.outcomes(MEASURE), rank_1(lab.outcomes(MEASURE))
    clean, found = (
        100 * float(lab.search.reranked(lab.rows, features, **parameters).cmc[0])
        for features in (lab.guides.clean, attacked.features)
    )
    if clean == 0:
        return skipped(NOTHING.format(" in re-ranked lists"))
    return beside(lab, found, f"re-ranked, clean {clean:.1f} %", plain)


def gallery_size(lab: Lab) -> Verdict:
    """Leave out gallery items of other people, and attack anew."""
    if nothing_to_lower(lab, lab.scene):
        return skipped(NOTHING.format(""))
    guides, found, words = lab.search.guides(lab.probes), [], []
    for share in SHARES:
        attack = SmallGallery(lab.attack(MEASURE), share)
        clean = rank_1_of_margins(rank_margin(guides.clean, attack.set_target(guides, lab.probes)))
        margins = lab.run(f"{MEASURE} in {share:g} of the gallery", attack).margin
        found.append(rank_1_of_margins(margins))
        words.append(f"{found[-1]:.1f} % with {share:g} of it, clean {clean:.1f} %")
    own = rank_1(lab.probe(MEASURE))
    gap = abs(found[-1] - own)
    sentence = f"Rank-1 {own:.1f} % in the whole gallery, clean {clean_of(lab, lab.scene):.1f} %; "
    return Verdict(PASS if gap <= UNEVEN else WARN, sentence + "; ".join(words), gap, "points")


def seen_people(lab: Lab) -> Verdict:
    """Search and attack people of the training set."""
    seen = lab.scene.seen()
    if seen is None:
        return skipped("nobody of the training set has images of two cameras to be searched with")
    rows = seen.search.draw(len(lab.probes), lab.cfg.ATTACK.SEED)
    clean = rank_1(seen.search.score(rows, seen.search.features[rows]))
    if clean == 0:
        return skipped(NOTHING.format(f" for the {len(rows)} queries of people seen in training"))
    attacked = lab.run(MEASURE, lab.attack(MEASURE), rows, seen)
    return beside(lab, rank_1(attacked), f"of people seen in training, clean {clean:.1f} %")


def other_norm(lab: Lab) -> Verdict:
    """Attack within the ball of the other norm that has the same volume."""
    if nothing_to_lower(lab, lab.scene):
        return skipped(NOTHING.format(""))
    batch, guides = lab.sample
    pixels = round(batch["images"].numel() / len(guides.pids) * changed_share(lab))
    radius = equal_volume_radius(1.0, pixels)
    norm, eps = "l2", lab.threat.eps * radius
    if lab.threat.norm == "l2":
        norm, eps = "linf", lab.threat.eps / radius
    attacked = lab.probe(MEASURE, norm=norm, eps=eps)
    return beside(lab, rank_1(attacked), f"within {norm} eps {eps:.4g}, a ball of the same volume")


def patch(lab: Lab) -> Verdict:
    """Attack with any pixels inside a square."""
    if nothing_to_lower(lab, lab.scene):
        return skipped(NOTHING.format(""))
    recipe = lab.attack(MEASURE).recipe
    attack = Patch(recipe, lab.cfg.ATTACK.SEED, lab.threat.infrared)
    attacked = lab.run("Patch", attack)
    return beside(lab, rank_1(attacked), f"with a patch on {PATCH_SHARE:.0%} of the image")


def light(lab: Lab) -> Verdict:
    """Change the light."""
    if nothing_to_lower(lab, lab.scene):
        return skipped(NOTHING.format(""))
    recipe = lab.attack(MEASURE).recipe
    attacked = lab.run("Light", Light(lab.level.draws, lab.cfg.ATTACK.SEED, recipe.eot))
    words = f"in the worst of {lab.level.draws} lights, each channel by up to {LIGHT:.2f}"
    return beside(lab, rank_1(attacked), words)


def trainings(lab: Lab) -> Verdict:
    """Attack the same network trained with other seeds."""
    number = 1 + len(lab.trainings)
    if number < TRAININGS:
        return skipped(
            f"a way of training needs {TRAININGS} seeds, {number} given: --trainings WEIGHTS for "
            "each other one"
        )
    scenes = (lab.scene, *lab.trainings)
    if nothing_to_lower(lab, *scenes):
        return skipped(NOTHING.format(" for all trainings"))
    found = [rank_1(lab.run(MEASURE, lab.attack(MEASURE), scene=scene)) for scene in scenes]
    seen = ", ".join(f"{value:.1f}" for value in found)
    gap = max(found) - min(found)
    sentence = f"between the Rank-1 under attack of {number} trainings: {seen} %"
    return Verdict(PASS if gap <= WIDE else WARN, sentence, gap, "points")


def beside(lab: Lab, found: float, words: str, own: float | None = None) -> Verdict:
    """By how many points the Rank-1 ``found`` elsewhere differs from the measure's own."""
    own = rank_1(lab.probe(MEASURE)) if own is None else own
    sentence = f"Rank-1 {found:.1f} % {words}; {own:.1f} % as measured"
    gap = abs(found - own)
    return Verdict(PASS if gap <= UNEVEN else WARN, sentence, gap, "points")


def nothing_to_lower(lab: Lab, *scenes: Scene) -> bool:
    """Tell whether no clean probe finds its person first in any of the scenes."""
    return all(clean_of(lab, scene) == 0 for scene in scenes)


def clean_of(lab: Lab, scene: Scene) -> float:
    """Rank-1 of the clean probes, percent."""
    found: Scores = scene.search.score(lab.probes, scene.search.features[lab.probes])
    return rank_1(found)


def rank_1_of_margins(margins: Tensor) -> float:
    """Rank-1 in percent of rank margins (R,)."""
    return 100 * float((margins <= 0).double().mean())
