import pytest
import torch
import torch.nn.functional as F

from plugins.modeling.heads import VideoHead
from tests.helpers.small_models import small_cfg


def features_of(count=6):
    return torch.randn(count, 512, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("neck", "normalized"), [("before", False), ("after", True)])
def test_training_features_come_from_the_side_of_the_neck_that_is_named(neck, normalized):
    features = features_of()
    outputs = VideoHead(small_cfg("MODEL.HEADS.NECK_FEAT", neck))(features, torch.zeros(6).long())
    by_hand = F.batch_norm(features, None, None, training=True)
    torch.testing.assert_close(outputs["features"], by_hand if normalized else features)


def test_logits_are_a_bias_free_map_of_the_feature_after_the_neck():
    head, features = VideoHead(small_cfg()), features_of()
    outputs = head(features, torch.zeros(6).long())
    by_hand = F.batch_norm(features, None, None, training=True) @ head.weight.T
    torch.testing.assert_close(outputs["pred_class_logits"], by_hand)
    torch.testing.assert_close(outputs["cls_outputs"], by_hand)
    assert not head.bottleneck[0].bias.requires_grad


def test_margin_classifiers_mark_only_the_target():
    head = VideoHead(
        small_cfg(
            "MODEL.HEADS.CLS_LAYER", "CosSoftmax", "MODEL.HEADS.SCALE", 8,
            "MODEL.HEADS.MARGIN", 0.25,
        )
    )  # fmt: skip
    targets = torch.tensor([0, 1, 2, 3, 0, 1])
    outputs = head(features_of(), targets)
    margins = outputs["pred_class_logits"] - outputs["cls_outputs"]
    torch.testing.assert_close(margins, 8 * 0.25 * F.one_hot(targets, 4).float())


def test_evaluation_returns_the_unit_feature_after_the_neck():
    head = VideoHead(small_cfg())
    head(features_of() * 3 + 1, torch.zeros(6).long())  # statistics unlike the identity
    head.eval()
    neck = head.bottleneck[0]
    features = features_of(3)
    normalized = (features - neck.running_mean) / (neck.running_var + neck.eps).sqrt()
    by_hand = normalized / normalized.norm(dim=1, keepdim=True)
    torch.testing.assert_close(head(features), by_hand)


def test_embedding_dim_sets_the_length_of_the_test_feature():
    head = VideoHead(small_cfg("MODEL.HEADS.EMBEDDING_DIM", 32)).eval()
    assert head(features_of()).shape == (6, 32)


def test_outputs_are_float32_under_autocast():
    head = VideoHead(small_cfg())
    with torch.autocast("cpu", torch.bfloat16):
        outputs = head(features_of().bfloat16(), torch.zeros(6).long())
        embedded = head.eval()(features_of().bfloat16())
    assert {value.dtype for value in outputs.values()} == {torch.float32}
    assert embedded.dtype == torch.float32


CLASSES, RELATION = 4, 16
TARGETS = torch.tensor([0, 1, 2, 3, 0, 1])


def related_head(*opts):
    torch.manual_seed(0)
    return VideoHead(small_cfg(*opts), relation_dim=RELATION)


def clips_of(count=6):
    """Appearances (B, 512), and relations (B, 16) of another size and mean behind them."""
    relation = 5 + 3 * torch.randn(count, RELATION, generator=torch.Generator().manual_seed(1))
    return torch.cat([features_of(count), relation], dim=1)


@pytest.mark.parametrize("join", ["concatenate", "add"])
def test_a_relation_has_a_neck_and_a_classifier_of_its_own(join):
    head, clips = related_head("MODEL.TEMPORAL.STIG.RELATION.JOIN", join), clips_of()
    outputs = head(clips, TARGETS)
    neck = F.batch_norm(clips[:, 512:], None, None, training=True)
    torch.testing.assert_close(outputs["relation_features"], clips[:, 512:])
    torch.testing.assert_close(outputs["relation_pred_class_logits"], neck @ head.relation.weight.T)
    torch.testing.assert_close(outputs["relation_cls_outputs"], neck @ head.relation.weight.T)
    # At the start nothing is added.
    torch.testing.assert_close(outputs["features"], clips[:, :512])
    alone = head(torch.cat([clips[:, :512], 0 * clips[:, 512:]], dim=1), TARGETS)
    torch.testing.assert_close(outputs["cls_outputs"], alone["cls_outputs"])


def test_margin_classifiers_judge_the_relation_too():
    head = related_head(
        "MODEL.HEADS.CLS_LAYER", "CosSoftmax", "MODEL.HEADS.SCALE", 8,
        "MODEL.HEADS.MARGIN", 0.25,
    )  # fmt: skip
    outputs = head(clips_of(), TARGETS)
    margins = outputs["relation_pred_class_logits"] - outputs["relation_cls_outputs"]
    torch.testing.assert_close(margins, 8 * 0.25 * F.one_hot(TARGETS, 4).float())
    assert outputs["relation_pred_class_logits"].abs().max() <= 8


def test_what_is_added_has_no_offset_and_moves_with_the_relation():
    head, clips = related_head("MODEL.TEMPORAL.STIG.RELATION.JOIN", "add"), clips_of()
    torch.nn.init.normal_(head.relation.added.weight)
    added = head(clips, TARGETS)["features"] - clips[:, :512]
    assert added.mean(dim=0).abs().max() < 1e-4
    assert added.std(dim=0).min() > 0.5


def by_hand(head, clips, feature, join):
    """The test feature of the docstring, from what the necks have recorded."""

    def neck_of(bottleneck, features):
        neck = bottleneck[0]
        std = (neck.running_var + neck.eps).sqrt()
        return (features - neck.running_mean) / std * neck.weight + neck.bias

    appearance, relation = clips[:, :512], neck_of(head.relation.bottleneck, clips[:, 512:])
    if feature == "relation":
        parts = [relation]
    elif feature == "appearance":
        parts = [neck_of(head.bottleneck, appearance)]
    elif join == "add":
        added = relation @ head.relation.added.weight.T
        parts = [neck_of(head.bottleneck, appearance + added)]
    else:
        parts = [neck_of(head.bottleneck, appearance), relation]
    return F.normalize(torch.cat(parts, dim=1))


@pytest.mark.parametrize("join", ["concatenate", "add"])
@pytest.mark.parametrize("feature", ["fused", "appearance", "relation"])
def test_the_test_feature_is_fused_or_one_of_its_parts(join, feature):
    head = related_head(
        "MODEL.TEMPORAL.NAME", "STIG",
        "MODEL.TEMPORAL.STIG.RELATION.JOIN", join,
        "TEST.FEATURE", feature,
    )  # fmt: skip
    if join == "add":
        torch.nn.init.normal_(head.relation.added.weight)
    head(3 * clips_of() + 1, TARGETS)  # statistics unlike the identity
    found = head.eval()(clips_of(3))
    torch.testing.assert_close(found, by_hand(head, clips_of(3), feature, join))
    shared = head.without_classifier()
    assert torch.equal(shared(clips_of(3)), found)
    assert "weight" not in shared._parameters and "weight" in head._parameters
