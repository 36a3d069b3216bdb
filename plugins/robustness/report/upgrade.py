"""Cards of the first format, whose identifiers were names of functions, in today's terms."""

from typing import Any

CHECKS = {
    "budget": "within_budget",
    "same forward": "same_features",
    "untouched": "no_side_effects",
    "gradient": "right_gradient",
    "moved": "budget_used",
    "long enough": "reach",
    "rises": "objective_rises",
    "order": "stronger_than_fna",
    "one attack is enough": "single_attack",
    "better than noise": "stronger_than_noise",
    "better than squares": "stronger_than_square",
    "better than hops": "stronger_than_hop_skip_jump",
    "better than transfer": "stronger_than_transfer",
    "falls to chance": "chance_at_large_budget",
    "collapse": "feature_collapse",
    "useful": "clean_accuracy",
    "people": "enough_people",
    "mirrors": "mirrored_images",
    "seen people": "training_people",
    "light": "illumination",
    "trainings": "training_seeds",
}
KEYS = {
    "over people": "interval_over_people",
    "over queries": "interval_over_queries",
    "unique wins": "unique_wins",
    "moved": "mean_perturbation",
    "without a gradient": "zero_gradients",
    "queries of the set": "queries_of_set",
    "attacked side": "attacked_side",
    "bill": "cost",
    "stop_when_solved": "early_stop",
    "drop_solved": "skip_successful",
}
LEVEL = {
    "probes": "subset",
    "curve": "eps_multipliers",
    "draws": "noise_samples",
    "searches": "square_queries",
    "hops": "hsj_queries",
}


def from_format_1(card: dict) -> dict:
    """Return a card of format 1 with the entries of version 2."""
    upgraded = rename(
        {name: value for name, value in card.items() if name not in ("format", "stamp")}
    )
    level = {LEVEL.get(name, name): value for name, value in card["level"].items()}
    return {
        **upgraded,
        "level": level,
        "checks": [upgrade_check(check) for check in card["checks"]],
    }


def rename(value: Any) -> Any:
    """Rename the keys of nested dictionaries."""
    if isinstance(value, dict):
        return {KEYS.get(name, name): rename(part) for name, part in value.items()}
    return [rename(part) for part in value] if isinstance(value, list) else value


def upgrade_check(check: dict) -> dict:
    """Return an entry of a check, its number within the explanation."""
    value, unit = check["figure"], check["unit"]
    number = "" if value is None else f"{value:.3g} {unit}: ".replace(" :", ":")
    return {
        "id": CHECKS.get(check["name"], check["name"].replace(" ", "_")),
        "group": check["group"],
        "question": check["question"],
        "state": check["state"],
        "explanation": f"{number}{check['sentence']}",
        "value": value,
        "unit": unit,
    }
