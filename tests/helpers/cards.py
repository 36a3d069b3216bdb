"""A card of a report, written by hand."""

from plugins.robustness.report import Entry

HEADLINE = (
    "Robustness not established: 1 check failed. Checks: 1 passed, 0 warned, 1 skipped, 1 failed."
)


def block(value):
    ends = {
        "interval_over_people": [value - 5, value + 5],
        "interval_over_queries": [value - 3, value + 3],
    }
    return {metric: {"value": value, **ends} for metric in ("Rank-1", "mAP")}


def check(group, state, value):
    return {
        "id": "budget_used", "group": group, "question": "Is 1 < 2 & so on?", "state": state,
        "explanation": f"The <value> is {value} points.", "value": value, "unit": "points",
    }  # fmt: skip


def small_card():
    """Two attacks, three checks, of which one failed."""
    recipe = {"restarts": 1, "steps": 15, "optimizer": "sign"}
    counts = {"unique_wins": 3, "mean_perturbation": 0.75, "backwards": 360, "recipe": recipe}
    return {
        "schema": "fastreid-plugins/robustness-card",
        "version": 3,
        "status": "not established",
        "headline": HEADLINE,
        "counts": {"passed": 1, "warned": 0, "skipped": 1, "failed": 1},
        "established": False,
        "level": {"name": "quick"},
        "model": {"architecture": "Baseline", "sha256": "c0ffee"},
        "code": {"torch": "2"},
        "data": {"dataset": "Market1501", "direction": "Q2G", "queries": 24, "people": 8,
                 "guides": "gallery"},
        "threat": {"norm": "linf", "eps": 8.0},
        "seed": 0,
        "clean": block(90.0),
        "attacks": {"SMA": {**block(40.0), **counts}, "FNA": {**block(30.0), **counts}},
        "worst": block(20.0),
        "chance": 12.5,
        "curve": {"attack": "RankMargin", "queries": 8, "area": 55.0,
                  "points": [{"eps": 0.0, "Rank-1": 90.0}, {"eps": 8.0, "Rank-1": 20.0},
                             {"eps": 64.0, "Rank-1": 0.0}]},
        "people": [{"id": 7, "queries": 3, "clean": 100.0, "worst": 0.0}],
        "cameras": [{"id": 1, "queries": 3, "clean": 100.0, "worst": 0.0}],
        "checks": [check("A", "PASS", 0.0), check("C", "FAIL", 12.5), check("D", "SKIPPED", None)],
        "cost": {"forwards": 10, "backwards": 10, "seconds": 1.5},
    }  # fmt: skip


def entry(name, status="upper bound", worst=20.0, **changes):
    card = {**small_card(), "status": status, "worst": block(worst)}
    for section, values in changes.items():
        card[section] = {**card[section], **values}
    return Entry(name, card)
