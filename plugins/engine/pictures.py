"""Draw pictures at the end of an evaluation."""

import logging
from pathlib import Path

import torch
from fastreid.config import CfgNode

from plugins.data.datasets.base import ReidDataset
from plugins.data.datasets.own_names import named
from plugins.engine.output_folder import PICTURES
from plugins.evaluation import VVIEvaluator, ranked_lists
from plugins.utils.pictures import HOW_CHOSEN, RankedRow, choose_queries, draw_ranked_clips

logger = logging.getLogger(__name__)

LIST_LENGTH = 6
DIRECTIONS = {
    "I2V": "infrared queries, visible gallery",
    "V2I": "visible queries, infrared gallery",
    "Q2G": "all queries, whole gallery",
    "V2I deen-script": "drawn infrared queries, visible gallery",
}


def draw_rankings(
    cfg: CfgNode,
    dataset_name: str,
    dataset: ReidDataset,
    evaluator: VVIEvaluator,
    subfolder: str = PICTURES,
) -> None:
    """Draw TEST.RANK_PICTURE queries of each direction's first trial into a folder in OUTPUT_DIR.

    Args:
        cfg: TEST.RANK_PICTURE, TEST.METRIC, OUTPUT_DIR.
        dataset_name: part of title and file name.
        dataset: whose ``query + gallery`` was evaluated.
        evaluator: after its ``evaluate``, on the main process.
        subfolder: name of the folder.
    """
    folder = Path(cfg.OUTPUT_DIR, subfolder)
    folder.mkdir(parents=True, exist_ok=True)
    items = [named(dataset, item) for item in (*dataset.query, *dataset.gallery)]
    assert evaluator.collected is not None, "the evaluator has not run"
    for name, direction in dataset.directions().items():
        queries, gallery = (torch.as_tensor(side) for side in direction.trials[0])
        precisions = evaluator.rankings[name].average_precision
        chosen = torch.tensor(choose_queries(precisions, cfg.TEST.RANK_PICTURE))
        lists, distances = ranked_lists(
            evaluator.collected.select(queries[chosen]),
            evaluator.collected.select(gallery),
            length=LIST_LENGTH,
            metric=cfg.TEST.METRIC,
            junk=direction.junk,
        )
        picture_rows = [
            RankedRow(
                items[queries[query]],
                float(precisions[query]),
                [items[gallery[index]] for index in ranked if index >= 0],
                [float(d) for d, index in zip(distance, ranked, strict=True) if index >= 0],
            )
            for query, ranked, distance in zip(chosen, lists, distances, strict=True)
        ]
        path = folder / f"{dataset_name}_{name.replace(' ', '_')}.png"
        kind = DIRECTIONS.get(name) or DIRECTIONS.get(name.split()[0], name)
        title = f"{dataset_name} {name}: {kind}"
        draw_ranked_clips(path, picture_rows, title, HOW_CHOSEN)
        logger.info("Picture of ranked clips: %s", path.resolve())
