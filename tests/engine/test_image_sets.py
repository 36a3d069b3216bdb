"""Fastreid's own image data sets and models, through this package's trainer, on a CPU."""

import json

import pytest

from plugins.config import setup_cfg
from plugins.engine import Trainer
from plugins.synthetic import MARKET1501, SyntheticSettings, render_layout

OPTIONS = {
    "MODEL.META_ARCHITECTURE": "Baseline",
    "MODEL.DEVICE": "cpu",
    "MODEL.BACKBONE.NAME": "build_resnet_backbone",
    "MODEL.BACKBONE.DEPTH": "18x",
    "MODEL.BACKBONE.FEAT_DIM": "512",
    "MODEL.BACKBONE.PRETRAIN": "False",
    "MODEL.HEADS.NAME": "EmbeddingHead",
    "MODEL.HEADS.NORM": "BN",
    "MODEL.HEADS.WITH_BNNECK": "True",
    "MODEL.HEADS.POOL_LAYER": "GlobalAvgPool",
    "MODEL.LOSSES.NAME": "('CrossEntropyLoss','TripletLoss')",
    "INPUT.SIZE_TRAIN": "[32,16]",
    "INPUT.SIZE_TEST": "[32,16]",
    "DATASETS.NAMES": "('Market1501',)",
    "DATASETS.TESTS": "('Market1501',)",
    "DATALOADER.SAMPLER_TRAIN": "NaiveIdentitySampler",
    "DATALOADER.NUM_INSTANCE": "2",
    "DATALOADER.NUM_WORKERS": "0",
    "SOLVER.IMS_PER_BATCH": "8",
    "SOLVER.MAX_EPOCH": "1",
    "TEST.RANK_PICTURE": "1",
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_stock_model_trains_on_a_stock_image_set_and_is_evaluated(tmp_path, monkeypatch):
    settings = SyntheticSettings(train_ids=4, test_ids=3, height=32, width=16, max_frames=12)
    render_layout(MARKET1501, tmp_path / "Market-1501-v15.09.15", settings)
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    options = OPTIONS | {"OUTPUT_DIR": str(tmp_path / "run")}
    cfg = setup_cfg("", [word for pair in options.items() for word in pair])
    cfg.SEED = 0
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    results = trainer.train()
    queries = list((tmp_path / "Market-1501-v15.09.15" / "query").iterdir())
    assert set(results) == {"Q2G", "metric"}
    assert results["Q2G"]["queries"] == len(queries)
    assert 0 < results["Q2G"]["mAP"] <= 100
    line = (tmp_path / "run" / "metrics.json").read_text().splitlines()[0]
    assert json.loads(line)["loss_triplet"] > 0
    assert (tmp_path / "run" / "pictures" / "Market1501_Q2G.png").is_file()
