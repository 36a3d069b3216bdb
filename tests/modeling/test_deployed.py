import pytest
import torch

from plugins.modeling.deployed import Deployed
from plugins.modeling.meta_arch import SADSTRM
from plugins.registry import TEMPORAL, known
from tests.helpers.small_models import small_batch, small_cfg

STRONG = (
    "MODEL.BACKBONE.SHARED_STEM", True,
    "MODEL.SPATIAL_POOLING.KIND", "gem",
    "INPUT.STYLE_VARIATION.ENABLED", True,
)  # fmt: skip
AT_FRAMES = (
    "MODEL.HEADS.NECK_LEVEL", "frame",
    "MODEL.LOSSES.FRAMES.NAME", "['CrossEntropyLoss']",
)  # fmt: skip


@pytest.mark.parametrize("temporal", known(TEMPORAL))
def test_features_are_those_of_the_model_in_the_strong_recipe(temporal):
    torch.manual_seed(0)
    frames = AT_FRAMES if hasattr(TEMPORAL.get(temporal), "frame_features") else ()
    opts = ["MODEL.TEMPORAL.NAME", temporal, *STRONG, *frames]
    model, batch = SADSTRM(small_cfg(*opts)), small_batch()
    model(batch)
    deployed = Deployed(model)
    with torch.no_grad():
        ours = deployed(batch["images"], batch["modalities"])
        assert torch.equal(ours, model.eval()(batch))
    assert not any("weight" in name for name, _ in deployed.heads.named_parameters(recurse=False))


@pytest.mark.parametrize("temporal", known(TEMPORAL))
def test_features_are_those_of_the_model_in_evaluation(temporal):
    torch.manual_seed(0)
    opts = ["MODEL.TEMPORAL.NAME", temporal, "MODEL.CROSS_MODAL_ATTENTION.ENABLED", True]
    model, batch = SADSTRM(small_cfg(*opts)), small_batch()
    model(batch)  # moves the statistics of the BNNeck away from where they start
    deployed = Deployed(model)
    with torch.no_grad():
        ours = deployed(batch["images"], batch["modalities"])
        theirs = model.eval()(batch)
    assert torch.equal(ours, theirs)


def test_nothing_that_only_training_needs_is_left():
    model = SADSTRM(small_cfg("MODEL.CROSS_MODAL_ATTENTION.ENABLED", True))
    kept = {parameter.data_ptr() for parameter in Deployed(model).parameters()}
    gone = [name for name, p in model.named_parameters() if p.data_ptr() not in kept]
    assert {name.split(".")[0] for name in gone} == {"attack", "cross_modal", "heads"}
    classifiers = ["heads.weight", "heads.relation.weight"]
    assert [name for name in gone if name.startswith("heads")] == classifiers


@pytest.mark.slow
@pytest.mark.parametrize("join", ["concatenate", "add"])
@pytest.mark.parametrize("feature", ["fused", "appearance", "relation"])
@pytest.mark.parametrize("source", ["layer2", "layer4"])
def test_a_relation_is_deployed_as_it_is_tested(join, feature, source):
    torch.manual_seed(0)
    opts = [
        "MODEL.TEMPORAL.STIG.SOURCE", source,
        "MODEL.TEMPORAL.STIG.COLUMNS", 2,
        "MODEL.TEMPORAL.STIG.RELATION.JOIN", join,
        "TEST.FEATURE", feature,
    ]  # fmt: skip
    model, batch = SADSTRM(small_cfg(*opts)), small_batch()
    model(batch)
    deployed = Deployed(model)
    with torch.no_grad():
        ours = deployed(batch["images"], batch["modalities"])
        theirs = model.eval()(batch)
    assert torch.equal(ours, theirs)
    lengths = {"fused": 768 if join == "concatenate" else 512, "appearance": 512, "relation": 256}
    assert ours.shape[1] == lengths[feature]
