"""The keys: each one's line says what it takes, and a wrong value is refused by it."""

import copy
import math
import re

import pytest
from fastreid.config import get_cfg
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.config import SPECS, Key, add_keys, check_value, default_cfg, flatten, setup_cfg
from plugins.config.fastreid_keys import FASTREID_KEYS
from plugins.config.keys import KEYS
from plugins.errors import InputError


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("MODEL.DEVICE", "gpu", "MODEL.DEVICE: 'gpu'; expected cpu, cuda or cuda:N"),
        ("MODEL.DEVICE", "cuda:", "MODEL.DEVICE: 'cuda:'"),
        ("DATALOADER.NUM_WORKERS", -1, "DATALOADER.NUM_WORKERS: -1; expected 0 or more"),
        ("SOLVER.ACCUMULATION", 0, "SOLVER.ACCUMULATION: 0; expected 1 or more"),
        ("SOLVER.CHECKPOINT_PERIOD", 0, "SOLVER.CHECKPOINT_PERIOD: 0; expected 1 or more"),
        ("SOLVER.LOG_PERIOD", 0, "SOLVER.LOG_PERIOD: 0; expected 1 or more"),
        ("TEST.EVAL_PERIOD", 0, "TEST.EVAL_PERIOD: 0; expected 1 or more"),
        ("SOLVER.SCHED", "Foo", "SOLVER.SCHED: 'Foo'; expected MultiStepLR or CosineAnnealingLR"),
        ("SOLVER.WARMUP_METHOD", "foo", "SOLVER.WARMUP_METHOD: 'foo'; expected constant, "),
        ("TEST.RANK_PICTURE", -1, "TEST.RANK_PICTURE: -1; expected 0 or more"),
        ("SOLVER.BASE_LR", -1.0, "SOLVER.BASE_LR: -1.0; expected 0 or more"),
        ("SOLVER.MAX_EPOCH", 0, "SOLVER.MAX_EPOCH: 0; expected 1 or more"),
        ("SOLVER.WARMUP_EPOCHS", -2, "SOLVER.WARMUP_EPOCHS: -2; expected 0 or more"),
        ("MODEL.SELF_ATTACK.EPS", -0.03, "MODEL.SELF_ATTACK.EPS: -0.03; expected 0 or more"),
        ("MODEL.SELF_ATTACK.TEMPERATURE", 0.0, "MODEL.SELF_ATTACK.TEMPERATURE: 0.0; expected more"),
        ("MODEL.BACKBONE.LAST_STRIDE", 0, "MODEL.BACKBONE.LAST_STRIDE: 0; expected 1 or more"),
        ("MODEL.TEMPORAL.STIG.STRIPES", 0, "MODEL.TEMPORAL.STIG.STRIPES: 0; expected 1 or more"),
        ("MODEL.TEMPORAL.STIG.DIM", 0, "MODEL.TEMPORAL.STIG.DIM: 0; expected 1 or more"),
        ("MODEL.TEMPORAL.STIG.COLUMNS", 0, "MODEL.TEMPORAL.STIG.COLUMNS: 0; expected 1 or more"),
        ("MODEL.TEMPORAL.STIG.SOURCE", "layer1", ".*SOURCE: 'layer1'; expected layer2, layer3"),
        ("MODEL.TEMPORAL.STIG.RELATION.DIM", -1, ".*RELATION.DIM: -1; expected 0 or more"),
        ("MODEL.TEMPORAL.STIG.RELATION.JOIN", "or", ".*JOIN: 'or'; expected concatenate or add"),
        ("MODEL.TEMPORAL.STIG.RELATION.READS", "x", ".*READS: 'x'; expected cells or changes"),
        ("MODEL.TEMPORAL.STIG.RELATION.WEIGHT", -1.0, ".*WEIGHT: -1.0; expected 0 or more"),
        ("MODEL.TEMPORAL.STIG.DROPOUT", 1.0, ".*STIG.DROPOUT: 1.0; expected 0 or more, below 1"),
        ("MODEL.TEMPORAL.NORM.STATISTICS", "all", ".*STATISTICS: 'all'; expected modality or joi"),
        ("MODEL.TEMPORAL.NORM.MOMENTUM", 0.1, ".*MOMENTUM: 0.1; expected more than 0, at most"),
        ("MODEL.TEMPORAL.NORM.MOMENTUM", 0.0, ".*MOMENTUM: 0.0; expected more than 0, at most"),
        ("TEST.FEATURE", "gate", "TEST.FEATURE: 'gate'; expected fused, appearance or"),
        ("TEST.FEATURE", "relation", "TEST.FEATURE: relation needs a relation beside the appear"),
        ("MODEL.TEMPORAL.LSTM.DIM", 0, "MODEL.TEMPORAL.LSTM.DIM: 0; expected 1 or more"),
        ("MODEL.TEMPORAL.TRANSFORMER.DIM", 0, "MODEL.TEMPORAL.TRANSFORMER.DIM: 0; expected 1"),
        ("MODEL.BACKBONE.NORM", "foo", "MODEL.BACKBONE.NORM: 'foo'; expected BN, syncBN, GhostBN"),
        ("MODEL.HEADS.NORM", "foo", "MODEL.HEADS.NORM: 'foo'; expected BN, syncBN, GhostBN"),
        ("MODEL.HEADS.CLS_LAYER", "foo", "MODEL.HEADS.CLS_LAYER: 'foo'; expected Linear, Arc"),
        ("MODEL.HEADS.NECK_FEAT", "foo", "MODEL.HEADS.NECK_FEAT: 'foo'; expected before or after"),
        ("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "foo", ".*CLIP_TYPE: 'foo'; expected norm or value"),
        ("MODEL.LOSSES.NAME", "()", r"MODEL.LOSSES.NAME: \(\); expected a list of names, one or"),
        ("TEST.ATTACKS", "[,]", r".*TEST.ATTACKS: '\[,\]'; expected a list of names"),
        ("ATTACK.SAVE_IMAGES", "True", "ATTACK.SAVE_IMAGES: 'True'; expected a folder, such as"),
        ("ATTACK.SAVE_IMAGES", "false", "ATTACK.SAVE_IMAGES: 'false'; expected a folder, such as"),
        ("TEST.ATTACKS", "[1, 2]", r"TEST.ATTACKS: \[1, 2\]; expected a list of names"),
        ("MODEL.FREEZE_LAYERS", 3, r"MODEL.FREEZE_LAYERS: \[3\]; expected a list of names"),
        ("TEST.CLIPS", -1, "TEST.CLIPS: -1; expected 0 or more"),
        ("INPUT.CLIP.LENGTH", 0, "INPUT.CLIP.LENGTH: 0; expected 1 or more"),
        ("DEFENSE.EPS", -1.0, "DEFENSE.EPS: -1.0; expected 0 or more"),
        ("DEFENSE.ATTACKED_WEIGHT", -1.0, "DEFENSE.ATTACKED_WEIGHT: -1.0; expected 0 or more"),
        ("DEFENSE.FNES.GAMMA", 0.0, "DEFENSE.FNES.GAMMA: 0.0; expected 1 or more"),
        ("SOLVER.EMA_DECAY", -0.1, "SOLVER.EMA_DECAY: -0.1; expected 0 or more, below 1"),
        ("SOLVER.EMA_DECAY", 1.0, "SOLVER.EMA_DECAY: 1.0; expected 0 or more, below 1"),
        ("SOLVER.EMA_DECAY", 999.0, "SOLVER.EMA_DECAY: 999.0; expected 0 or more, below 1"),
        ("SEED", 2**40, "SEED: 1099511627776; expected 2147483647 or less"),
    ],
)
def test_a_value_that_no_run_can_have_is_refused(key, value, message):
    with pytest.raises(InputError, match=f"^{message}"):
        setup_cfg(opts=[key, value])


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("SOLVER.WEIGHT_DECAY", -1, "-1.0; expected 0 or more"),
        ("SOLVER.WEIGHT_DECAY_NORM", -1, "-1.0; expected 0 or more"),
        ("SOLVER.HEADS_LR_FACTOR", -1, "-1.0; expected 0 or more"),
        ("SOLVER.BIAS_LR_FACTOR", -1, "-1.0; expected 0 or more"),
        ("SOLVER.MOMENTUM", 1, "1.0; expected 0 or more, below 1"),
        ("SOLVER.GAMMA", 0, "0.0; expected more than 0"),
        ("SOLVER.STEPS", [1.5], r"\[1.5\]; expected a list of whole numbers, each 1 or more"),
        ("SOLVER.DELAY_EPOCHS", -1, "-1; expected 0 or more"),
        ("SOLVER.ETA_MIN_LR", -1, "-1.0; expected 0 or more"),
        ("SOLVER.WARMUP_FACTOR", -1, "-1.0; expected 0 to 1"),
        ("SOLVER.CLIP_GRADIENTS.CLIP_VALUE", -1, "-1.0; expected more than 0"),
        ("SOLVER.CLIP_GRADIENTS.NORM_TYPE", -2, "-2.0; expected more than 0"),
        ("SOLVER.ADVERSARY.START_EPOCH", -3, "-3; expected 0 or more"),
        ("SOLVER.ADVERSARY.BASE_LR", -1, "-1.0; expected 0 or more"),
        ("SOLVER.ADVERSARY.CLIP_NORM", 0, "0.0; expected more than 0"),
        ("MODEL.LOSSES.CE.EPSILON", 3, "3.0; expected -1 or more, below 1"),
        ("MODEL.LOSSES.CE.SCALE", -1, "-1.0; expected 0 or more"),
        ("MODEL.LOSSES.TRI.MARGIN", -1, "-1.0; expected 0 or more"),
        ("MODEL.LOSSES.CROSS_MODAL_TRI.MARGIN", -1, "-1.0; expected 0 or more"),
        ("MODEL.SELF_ATTACK.LAMBDA_A", -1, "-1.0; expected 0 or more"),
        ("MODEL.HEADS.SCALE", 0, "0; expected 1 or more"),
        ("MODEL.HEADS.EMBEDDING_DIM", -1, "-1; expected 0 or more"),
        ("MODEL.HEADS.NUM_CLASSES", -2, "-2; expected 0 or more"),
        ("MODEL.HEADS.POOL_LAYER", "Foo", "'Foo'; expected GlobalAvgPool, "),
        ("MODEL.PIXEL_MEAN", [1], r"\[1\]; expected a list of 3 numbers, each 0 to 255"),
        ("MODEL.PIXEL_STD", [0, 0, 0], r"\[0, 0, 0\]; expected a list of 3 numbers, each more"),
        ("MODEL.PIXEL_STD", [-1, 1, 1], r"\[-1, 1, 1\]; expected a list of 3 numbers, each more"),
        ("INPUT.SIZE_TRAIN", [64.5, 32], r"\[64.5, 32\]; expected a list of 2 whole numbers"),
        ("INPUT.CROP.SCALE", [1, 0.5], r"\[1, 0.5\]; .*, at most 1, in ascending order"),
        ("INPUT.PADDING.SIZE", -4, "-4; expected 0 or more"),
        ("INPUT.CJ.HUE", 1, "1.0; expected 0 to 0.5"),
        ("DATALOADER.SET_WEIGHT", [0.5], r"\[0.5\]; expected an empty list"),
        ("TEST.IMS_PER_BATCH", 0, "0; expected 1 or more"),
        ("TEST.ATTACKS", "FNA,FNA", r"\['FNA', 'FNA'\]; expected a list of names, each once"),
        ("DATASETS.NAMES", "A,A", r"\('A', 'A'\); expected a list of names, each once"),
        ("TEST.IMS_PER_BATCH", -3, "-3; expected 1 or more"),
        ("DATASETS.THINNED.SEED", -1, "-1; expected 0 or more"),
        ("ATTACK.EPS", math.inf, "inf; expected a finite number"),
        ("SOLVER.BASE_LR", "1e999", "inf; expected a finite number"),
        ("TEST.AQE.ALPHA", math.inf, "inf; expected finite numbers"),  # a key without a description
    ],
)
def test_a_number_that_trains_or_tests_nonsense_is_refused(key, value, message):
    with pytest.raises(InputError, match=f"^{re.escape(key)}: {message}"):
        setup_cfg(opts=[key, value])


def test_infinity_in_yaml_is_refused_but_for_the_order_of_a_norm(tmp_path):
    file = tmp_path / "c.yml"
    file.write_text("SOLVER: {CLIP_GRADIENTS: {NORM_TYPE: .inf}}")
    assert math.isinf(setup_cfg(str(file)).SOLVER.CLIP_GRADIENTS.NORM_TYPE)
    for text, key in (
        ("ATTACK: {EPS: .inf}", "ATTACK.EPS"),
        ("MODEL: {PIXEL_STD: [.inf, 1, 1]}", "MODEL.PIXEL_STD"),
        ("DATALOADER: {SET_WEIGHT: [.nan]}", "DATALOADER.SET_WEIGHT"),
        ("TEST: {EXPECTED_RESULTS: [[a/b, mAP, 50, .inf]]}", "TEST.EXPECTED_RESULTS"),
    ):
        file.write_text(text)
        with pytest.raises(InputError, match=f"{key}: "):
            setup_cfg(str(file))


def test_every_number_has_a_range():
    """A number without one, such as a text, would let nonsense train."""
    without = [
        name
        for name, key in SPECS.items()
        if type(key.default) in (int, float) and not key.limits and not key.choices
    ]
    assert without == []


def test_a_relation_is_tested_alone_only_where_there_is_one():
    stig = ["MODEL.TEMPORAL.NAME", "STIG", "TEST.FEATURE", "relation"]
    assert setup_cfg(opts=stig).TEST.FEATURE == "relation"
    with pytest.raises(InputError, match=r"found .* STIG with .*RELATION.DIM 0; expected STIG and"):
        setup_cfg(opts=[*stig, "MODEL.TEMPORAL.STIG.RELATION.DIM", 0])


def test_a_device_may_have_a_number():
    assert setup_cfg(opts=["MODEL.DEVICE", "cuda:1"]).MODEL.DEVICE == "cuda:1"


def test_every_key_of_ours_is_described_and_has_the_type_of_its_default():
    base, cfg = dict(flatten(get_cfg())), dict(flatten(default_cfg()))
    assert set(cfg) - set(base) == set(KEYS)
    for name, key in KEYS.items():
        assert cfg[name] == key.default and type(cfg[name]) is type(key.default), name


def test_what_is_written_of_fastreids_keys_is_what_fastreid_has():
    base = dict(flatten(get_cfg()))
    for name, key in FASTREID_KEYS.items():
        assert (base[name], type(base[name])) == (key.default, type(key.default)), name


def test_a_key_says_what_it_means_in_sentences():
    for name, key in SPECS.items():
        text = key.meaning
        assert text.endswith(".") and not text.startswith("Of "), name
        assert "\n" not in text and "  " not in text, name
        assert text[0].isupper() or text.split()[0] in str(key.choices), name


NUMBERS = {
    "least": (Key(1, "N.", least=0), (0, 5), (-1,), "0 or more"),
    "above": (Key(1.0, "N.", above=0), (0.1,), (0.0, -1.0), "more than 0"),
    "both": (Key(1.0, "N.", least=0, most=1), (0.0, 1.0), (-0.1, 1.1), "0 to 1"),
    "half open": (Key(0.5, "N.", least=0, below=1), (0.0,), (1.0,), "0 or more, below 1"),
    "above, most": (Key(0.5, "N.", above=0, most=1), (1.0,), (0.0, 2.0), "more than 0, at most 1"),
    "even": (Key(2, "N.", multiple_of=2), (4,), (3,), "a multiple of 2"),
    "finite": (Key(1.0, "N.", least=0), (2.0,), (math.inf, math.nan), "a finite number"),
    "list": (Key([1, 2], "N.", least=1, lengths=(2,)), ([3, 4],), ([3], [0, 1]), "a list of 2"),
    "whole": (Key([1], "N."), ([3, 4], []), ([3.5],), "a list of whole numbers"),
    "rising": (Key([1.0, 2], "N.", ascending=True), ([3, 3],), ([2, 1],), ".* in ascending order"),
    "infinite": (Key(1.0, "N.", above=0, infinite=True), (math.inf,), (-1.0,), "more than 0"),
    "no limit": (Key(1.0, "N."), (-2.0,), (math.inf, math.nan), "a finite number"),
    "none": (Key([], "N.", lengths=(0,)), ([],), ([1],), "an empty list"),
    "names": (Key([], "N.", names=True), ([], ["A"]), ([1],), "a list of names"),
    "some": (Key(["A"], "N.", nonempty=True), (["B"],), ([],), "a list of names, one or more"),
    "text": (Key("cpu", "N.", pattern=("cpu|gpu", "cpu or gpu")), ("gpu",), ("tpu",), "cpu or gpu"),
    "choices": (Key("a", "N.", choices=("a", "b", "c")), ("c",), ("d",), "a, b or c"),
    "many": (Key("a", "N.", choices=("a", "b", "c", "dd")), ("b",), ("d",), ".*; nearest: dd"),
}  # fmt: skip


@pytest.mark.parametrize("kind", NUMBERS)
def test_a_key_takes_its_values_and_says_what_it_expects_of_others(kind, monkeypatch):
    key, good, bad, expected = NUMBERS[kind]
    monkeypatch.setitem(SPECS, "A.KEY", key)
    for value in good:
        check_value("A.KEY", value)
    for value in bad:
        with pytest.raises(InputError, match=rf"^A\.KEY: .*; expected {expected}"):
            check_value("A.KEY", value)


def test_a_default_that_its_own_key_refuses_is_a_defect():
    with pytest.raises(InputError, match="expected 0 or more"):
        Key(-1, "A number.", least=0)


def test_keys_of_a_user_are_added_checked_and_leave_others_alone(monkeypatch):
    monkeypatch.setattr("plugins.config.tree.SPECS", copy.copy(SPECS))
    cfg = default_cfg()
    before = dict(flatten(cfg))
    add_keys(cfg, {"MODEL.LOSSES.MINE.WEIGHT": Key(1.0, "Weight.", least=0), "MINE": Key([], "L.")})
    assert cfg.MODEL.LOSSES.MINE.WEIGHT == 1.0
    assert before.items() <= dict(flatten(cfg)).items()
    cfg.MINE.append(1)
    other = default_cfg()
    add_keys(other, {"MINE": Key([], "L.")})
    assert other.MINE == []
    for name in ("SEED", "MODEL", "SEED.MINE"):
        with pytest.raises(InputError, match=f"^{name}: .*expected a"):
            add_keys(cfg, {name: Key(0, "Number.")})


@settings(max_examples=50, deadline=None)
@given(
    st.recursive(st.integers(), lambda t: st.dictionaries(st.sampled_from("ABC"), t, min_size=1))
)
def test_flatten_keeps_every_leaf_once(tree):
    if not isinstance(tree, dict):
        return

    def leaf(key: str):
        node = tree
        for part in key.split("."):
            node = node[part]
        return node

    leaves = flatten(tree)
    assert len({key for key, _ in leaves}) == len(leaves)
    assert all(leaf(key) == value for key, value in leaves)
