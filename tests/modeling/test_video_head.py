import pytest
import torch
import torch.nn.functional as F

from plugins.modeling.heads import VideoHead
from tests.modeling.samples import small_cfg


def features_of(count=6):
    return torch.randn(count, 512, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("neck", "normalised"), [("before", False), ("after", True)])
def test_training_features_come_from_the_side_of_the_neck_that_is_named(neck, normalised):
    features = features_of()
    outputs = VideoHead(small_cfg("MODEL.HEADS.NECK_FEAT", neck))(features, torch.zeros(6).long())
    by_hand = F.batch_norm(features, None, None, training=True)
    torch.testing.assert_close(outputs["features"], by_hand if normalised else features)


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
    normalised = (features - neck.running_mean) / (neck.running_var + neck.eps).sqrt()
    by_hand = normalised / normalised.norm(dim=1, keepdim=True)
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
