"""Train with fastreid's DefaultTrainer and a step, loaders and evaluators found by name."""

import logging
import os
from collections import OrderedDict
from pathlib import Path

import torch
from fastreid.config import CfgNode
from fastreid.engine import DefaultTrainer, hooks
from fastreid.engine.train_loop import HookBase, TrainerBase
from fastreid.evaluation import inference_on_dataset
from fastreid.modeling import build_model
from fastreid.utils import comm
from fastreid.utils.events import CommonMetricPrinter, EventWriter
from torch import nn
from torch.optim import Optimizer

from plugins.compat import protect_input
from plugins.data import build_test_loader, build_train_loader
from plugins.data.datasets import ReidDataset, check_held_out
from plugins.data.loaders import DeviceLoader
from plugins.engine import optimizer as solver
from plugins.engine.averaging import build_average
from plugins.engine.checkpoint import (
    LIVE,
    BestMetric,
    Checkpointer,
    RandomState,
    SavedConfig,
    check_progress,
)
from plugins.engine.distributed import broadcast_model
from plugins.engine.hooks import (
    AverageBuffers,
    AverageWeights,
    CaptureRandomState,
    EvalHook,
    LayerFreeze,
    LRScheduler,
    MetricPrinter,
    PeriodicCheckpointer,
    PeriodicWriter,
)
from plugins.engine.input_kinds import check_items
from plugins.engine.interruption import KEY, Interruption
from plugins.engine.logs import counting
from plugins.engine.loop import StoppableLoop
from plugins.engine.output_folder import PICTURES
from plugins.engine.pictures import draw_rankings
from plugins.engine.queries import name_queries
from plugins.engine.rehearsal import check_results, rehearse
from plugins.engine.untrained import TellUntrained
from plugins.errors import InputError
from plugins.evaluation import Evaluation, VVIEvaluator, check_expected, results_table
from plugins.evaluation.views import viewed
from plugins.modeling.backbones.pretrained import build_pretrained
from plugins.modeling.dual_norm import add_dual_norm, check_branches
from plugins.modeling.precision import compute_small_convolutions
from plugins.modeling.recomputation import recompute_blocks
from plugins.modeling.stock import check_stock_parts
from plugins.registry import BACKBONE, EVALUATOR, HEADS, META_ARCH, STEP, lookup
from plugins.utils.io import write_text

logger = logging.getLogger(__name__)

ROBUST = "RobustEvaluator"  # the evaluator under TEST.ATTACKS
# Loader and data set of each of DATASETS.TESTS.
Tests = dict[str, tuple[DeviceLoader, ReidDataset]]


class Trainer(StoppableLoop, DefaultTrainer):
    """Train a config; fastreid's hooks, writers, file names and log line stay.

    The step (SOLVER.STEP) does one iteration, this class owns what it works with and what is saved.

    Attributes:
        model: the network that the step trains.
        average: its moving average, or None without SOLVER.EMA_DECAY.
        deployed: what is evaluated, saved as "model" and loaded: the averaged network if there is
            one, else ``model``.
        queries: what each query of the last evaluation found, on the main process.

    Raises:
        InputError: from any part that the config names wrongly, or when an epoch has no iteration.
    """

    def __init__(self, cfg: CfgNode) -> None:
        """Build loader, model, step, schedule and hooks in that order."""
        TrainerBase.__init__(self)
        check_stock_parts(cfg)
        os.makedirs(cfg.OUTPUT_DIR, exist_ok=True)
        data_loader = self.build_train_loader(cfg)
        tests = read_tests(cfg)
        self.iters_per_epoch = iterations_per_epoch(cfg, data_loader)
        cfg = self.scale_to_data(cfg, data_loader)
        model = self.build_model(cfg)
        broadcast_model(model)
        self.average = build_average(cfg, model)
        self.deployed = self.average.model if self.average else model
        self._tests = self.build_tests(cfg, self.deployed, tests)
        optimizer = self.build_optimizer(cfg, model)
        # DefaultTrainer reads model, data_loader, optimizer and grad_scaler from this attribute.
        taken = ("cfg", "model", "data_loader", "optimizer")
        step = lookup(STEP, cfg.SOLVER.STEP, "SOLVER.STEP", *taken)
        self._trainer = step(cfg, model, data_loader, optimizer)
        check_branches(cfg, self._trainer.branches())
        self.scheduler = self.build_lr_scheduler(cfg, optimizer, self.iters_per_epoch)

        self._random_state, self._best = RandomState(), BestMetric()
        self.checkpointer = Checkpointer(
            self.deployed,
            cfg.OUTPUT_DIR,
            save_to_disk=comm.is_main_process(),
            optimizer=optimizer,
            sampler=data_loader.batch_sampler,
            random_state=self._random_state,
            best_metric=self._best,
            config=SavedConfig(cfg),
            **self.scheduler,
            **self._trainer.checkpointables(),
            **({LIVE: self.average} if self.average else {}),
        )
        self.cfg = cfg
        self.start_epoch = self.start_iter = self.epoch = 0
        self._evaluated = False
        self.queries = Evaluation([])
        self.max_epoch = cfg.SOLVER.MAX_EPOCH
        self.max_iter = self.max_epoch * self.iters_per_epoch
        self.warmup_iters = solver.warmup_iters(cfg, self.iters_per_epoch)
        self.delay_epochs = cfg.SOLVER.DELAY_EPOCHS
        self.register_hooks(self.build_hooks())

    def resume_or_load(self, resume: bool | str = True) -> None:
        """Go on from a checkpoint, or load MODEL.WEIGHTS and start at iteration 0.

        Writes config.yaml after that, so a run that cannot go on keeps its own.

        Args:
            resume: True goes on from the newest checkpoint of OUTPUT_DIR if there is one; a path
                goes on from that file.
        """
        path = self.cfg.MODEL.WEIGHTS
        if isinstance(resume, str):
            path = resume
        elif resume and self.checkpointer.has_checkpoint():
            path = self.checkpointer.get_checkpoint_file()
        else:
            resume = False
        rest = self.checkpointer.load(path, checkpointables=None if resume else [])
        if resume:
            check_progress(path, rest)
            interruption = rest.pop(KEY, None)
            self.start_epoch = rest["epoch"] + 1
            self.start_iter = self.start_epoch * self.iters_per_epoch
            if interruption:
                self.go_on_from(Interruption.read(interruption, path), path)
            self._evaluated = rest.setdefault("metric", -1.0) >= 0
            self.check_warmup(path)
            logger.info(
                "Resumed from %s: %d of %d epochs are done, %d of %d iterations",
                path,
                self.start_epoch,
                self.max_epoch,
                self.start_iter,
                self.max_iter,
            )
            if self.start_epoch >= self.max_epoch:
                # The run may have been killed between the last epoch's two checkpoints.
                self.checkpointer.save("model_final", **rest)
        elif self.average:
            self.average.restart()
        if comm.is_main_process():
            config = Path(self.cfg.OUTPUT_DIR, "config.yaml")
            write_text(config, self.cfg.dump())
            logger.info("Full config saved to %s", config.absolute())

    def check_warmup(self, path: str) -> None:
        """Raise InputError if a checkpoint's warm-up would not end where that of this run does."""
        warmup = self.scheduler.get("warmup_sched")
        if not warmup or warmup.last_epoch >= warmup.warmup_iters:
            return
        done, expected = warmup.last_epoch, self.start_iter
        if (done, warmup.warmup_iters) != (expected, self.warmup_iters):
            raise InputError(
                f"{path}: cannot resume from it in its warm-up: {done} of {warmup.warmup_iters} "
                f"iterations are done; this run would have done {expected} of {self.warmup_iters}; "
                "expected SOLVER.IMS_PER_BATCH, SOLVER.ACCUMULATION and training set as they were; "
                "to start anew from its weights, set MODEL.WEIGHTS and leave out --resume"
            )

    def train(self) -> dict | None:
        """Train to the last epoch; return the last evaluation's results on the main process."""
        self.epoch = min(self.start_epoch, self.max_epoch - 1)
        if self.start_epoch >= self.max_epoch:
            logger.info("All %d epochs are done already; evaluating", self.max_epoch)
            if self._evaluated or self.start_epoch > self.max_epoch:
                return self._test()
        # Where no epoch is left, the hooks do what a kill in the last evaluation left undone.
        self.run_epochs()
        return self._last_eval_results if comm.is_main_process() else None

    def run_step(self) -> None:
        """Run one iteration of the step."""
        self._trainer.epoch = self.epoch
        super().run_step()

    def evaluate(self) -> dict:
        """Return :meth:`test` of the current network; keep the results of each query, too."""
        return self.evaluate_or_stop(self._test)

    def _test(self) -> dict:
        self._last_eval_results, self.queries = self.test_queries(
            self.cfg, self.deployed, self._tests
        )
        return self._last_eval_results

    def build_hooks(self) -> list[HookBase]:
        """Build fastreid's hooks, and ours that share state between ranks after an epoch."""
        cfg = self.cfg
        ours: list[HookBase] = [TellUntrained(self._trainer)]
        if self.average:
            ours.append(AverageWeights())
        for hook in self._fastreid_hooks():
            if isinstance(hook, hooks.PeriodicCheckpointer):
                hook = PeriodicCheckpointer(
                    self.checkpointer, cfg.SOLVER.CHECKPOINT_PERIOD, self._best
                )
            elif isinstance(hook, hooks.PeriodicWriter):
                hook = PeriodicWriter(hook._writers, cfg.SOLVER.LOG_PERIOD)
            elif isinstance(hook, hooks.EvalHook):
                ours.append(AverageBuffers())
                hook = EvalHook(cfg.TEST.EVAL_PERIOD, self.evaluate)
            elif isinstance(hook, hooks.PreciseBN):
                hook._model = self.deployed
            elif isinstance(hook, hooks.LRScheduler):
                hook = LRScheduler(self.optimizer, self.scheduler)
            elif isinstance(hook, hooks.LayerFreeze):
                hook = LayerFreeze(self.model, cfg)
            ours.append(hook)
            if isinstance(hook, EvalHook):
                ours.append(CaptureRandomState(self._random_state))
        return ours

    def _fastreid_hooks(self) -> list[HookBase]:
        """Build fastreid's hooks; the data of PreciseBN has a loader of its own."""
        try:
            return super().build_hooks()
        except InputError as error:
            precise = self.cfg.TEST.PRECISE_BN
            if not precise.ENABLED:
                raise
            raise InputError(f"TEST.PRECISE_BN.DATASET {precise.DATASET}: {error}") from error

    def build_writers(self) -> list[EventWriter]:
        """Build fastreid's writers; the line in the log estimates from recent iterations."""
        return [
            MetricPrinter(self.max_iter) if isinstance(writer, CommonMetricPrinter) else writer
            for writer in super().build_writers()
        ]

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """Build the model on its device; stock fastreid models do not write into their input."""
        lookup(META_ARCH, cfg.MODEL.META_ARCHITECTURE, "MODEL.META_ARCHITECTURE")
        lookup(BACKBONE, cfg.MODEL.BACKBONE.NAME, "MODEL.BACKBONE.NAME")
        lookup(HEADS, cfg.MODEL.HEADS.NAME, "MODEL.HEADS.NAME")
        model = build_pretrained(build_model, cfg)  # fastreid's method also prints the network
        model = recompute_blocks(add_dual_norm(model, cfg), cfg)
        if cfg.SOLVER.CHANNELS_LAST:
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if cfg.SOLVER.AMP.ENABLED:
            compute_small_convolutions(model)
        return protect_input(model)

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> Optimizer:
        """Build the main optimizer, over all parameters but those that the step updates itself."""
        step = lookup(STEP, cfg.SOLVER.STEP, "SOLVER.STEP")
        return solver.build_optimizer(cfg, model, leave_out=step.adversary_parameters(model))

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: Optimizer, iters_per_epoch: int) -> dict:
        """Build the schedule, see :func:`plugins.engine.optimizer.build_lr_scheduler`."""
        return solver.build_lr_scheduler(cfg, optimizer, iters_per_epoch)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> DeviceLoader:
        """Build the training loader; raise InputError if held-out people are in it."""
        check_held_out(cfg)
        loader = build_train_loader(cfg)
        check_items(cfg, "NAMES", " and ".join(cfg.DATASETS.NAMES), loader.dataset)
        return loader

    @classmethod
    def build_tests(cls, cfg: CfgNode, model: nn.Module, tests: Tests | None = None) -> Tests:
        """Read the tests and check them, so that an error stops a run at its start.

        Args:
            cfg: of the run.
            model: that will be evaluated.
            tests: what was read before; None reads it.

        Raises:
            InputError: from a data set or an evaluator; or TEST.EXPECTED_RESULTS names a row that
                there will not be.
        """
        tests = tests or read_tests(cfg)
        tasks = []
        for name, test in tests.items():
            evaluator = build_evaluator(cfg, model, name, *test)
            rehearse(evaluator, cfg, test[0], model)
            tasks += [f"{name}/{row}" for row in evaluator.row_names()]
        check_expected(cfg.TEST.EXPECTED_RESULTS, tasks)
        return tests

    @classmethod
    def test(cls, cfg: CfgNode, model: nn.Module, tests: Tests | None = None) -> dict:
        """Evaluate on every dataset of DATASETS.TESTS, also under TEST.ATTACKS; log one table.

        Args:
            cfg: the run's.
            model: what is evaluated.
            tests: what was read before; None reads it.

        Returns:
            On the main process {direction: {metric: percent}, "metric": percent}, under the
            dataset's name if there are several; elsewhere empty blocks.
        """
        return cls.test_queries(cfg, model, tests)[0]

    @classmethod
    def test_queries(
        cls,
        cfg: CfgNode,
        model: nn.Module,
        tests: Tests | None = None,
        pictures: str = PICTURES,
    ) -> tuple[dict, Evaluation]:
        """Evaluate as :meth:`test` does; return the results of each query, too.

        Args:
            cfg: of the run.
            model: network to evaluate.
            tests: data sets that were read before; None reads them.
            pictures: folder in OUTPUT_DIR for TEST.RANK_PICTURE.
        """
        results, queries = OrderedDict(), []
        for name, (loader, dataset) in (tests or read_tests(cfg)).items():
            evaluator = build_evaluator(cfg, model, name, loader, dataset)
            with counting(items_of(loader)):
                results[name] = inference_on_dataset(viewed(model, cfg), loader, evaluator)
            if comm.is_main_process():
                check_results(evaluator_name(cfg), results[name])
                queries += name_queries(name, dataset, evaluator, results[name])
                if cfg.TEST.RANK_PICTURE:
                    draw_rankings(cfg, name, dataset, evaluator, pictures)
        if comm.is_main_process():
            logger.info("Evaluation results:\n%s", results_table(results))
        blocks = next(iter(results.values())) if len(results) == 1 else results
        return blocks, Evaluation(queries, {"seed": cfg.SEED})

    @staticmethod
    def scale_to_data(cfg: CfgNode, data_loader: DeviceLoader) -> CfgNode:
        """Return the config with the training set's counts of people and cameras.

        Raises:
            InputError: it says fewer, as the config of a run on another set may do.
        """
        people, cameras = data_loader.dataset.num_classes, data_loader.dataset.num_cameras
        attack = cfg.MODEL.SELF_ATTACK
        refuse_fewer("MODEL.HEADS.NUM_CLASSES", cfg.MODEL.HEADS.NUM_CLASSES, people, "people")
        if attack.CAM_WEIGHT > 0:
            refuse_fewer("MODEL.SELF_ATTACK.NUM_CAMERAS", attack.NUM_CAMERAS, cameras, "cameras")
        cfg = cfg.clone()
        cfg.defrost()
        cfg.MODEL.HEADS.NUM_CLASSES = cfg.MODEL.HEADS.NUM_CLASSES or people
        cfg.MODEL.SELF_ATTACK.NUM_CAMERAS = cfg.MODEL.SELF_ATTACK.NUM_CAMERAS or cameras
        cfg.freeze()
        return cfg


def refuse_fewer(key: str, given: int, counted: int, what: str) -> None:
    """Raise InputError if a number in the config is neither 0 nor enough for the training set."""
    if 0 < given < counted:
        raise InputError(
            f"{key}: {given}, but there are {counted} {what} to train on; expected 0, which counts "
            "them"
        )


def items_of(loader: DeviceLoader) -> str:
    """Name what a loader's data set holds: clips, or images if no tracklet has several frames."""
    clips = any(len(item.img_paths) > 1 for item in loader.dataset.items)
    return "clips" if clips else "images"


def read_tests(cfg: CfgNode) -> Tests:
    """Read each of DATASETS.TESTS.

    Raises:
        InputError: from a data set, or the model reads single images and a set holds clips.
    """
    tests = {name: build_test_loader(cfg, name) for name in cfg.DATASETS.TESTS}
    for name, (loader, _) in tests.items():
        check_items(cfg, "TESTS", name, loader.dataset)
    return tests


def build_evaluator(
    cfg: CfgNode, model: nn.Module, name: str, loader: DeviceLoader, dataset: ReidDataset
) -> VVIEvaluator:
    """Build the evaluator of a data set, see :func:`evaluator_name`.

    Raises:
        InputError: there is no such evaluator, or it does not take the config.
    """
    evaluator = lookup(EVALUATOR, evaluator_name(cfg), "TEST.EVALUATOR")
    attacked = (model, loader.dataset, name) if cfg.TEST.ATTACKS else ()
    return evaluator(cfg, dataset, *attacked)


def evaluator_name(cfg: CfgNode) -> str:
    """Return the name TEST.EVALUATOR, or with TEST.ATTACKS RobustEvaluator.

    Raises:
        InputError: it is RobustEvaluator, and no attack is named.
    """
    if cfg.TEST.EVALUATOR == ROBUST and not cfg.TEST.ATTACKS:
        raise InputError(f"TEST.EVALUATOR: {ROBUST}; expected TEST.ATTACKS to name an attack")
    return ROBUST if cfg.TEST.ATTACKS else cfg.TEST.EVALUATOR


def load_model(cfg: CfgNode, weights: str) -> nn.Module:
    """Build the model of the config with the weights of a checkpoint.

    Raises:
        InputError: there is no such file, or its weights are not this model's.
    """
    model = Trainer.build_model(cfg)
    Checkpointer(model).load(weights, checkpointables=[])
    return model


def iterations_per_epoch(cfg: CfgNode, data_loader: DeviceLoader) -> int:
    """Count the updates in an epoch.

    Raises:
        InputError: there is none.
    """
    batches = data_loader.batch_sampler.batches_per_epoch
    if batches < cfg.SOLVER.ACCUMULATION:
        raise InputError(
            f"SOLVER.ACCUMULATION {cfg.SOLVER.ACCUMULATION}: an epoch has only {batches} batches "
            f"of SOLVER.IMS_PER_BATCH {cfg.SOLVER.IMS_PER_BATCH}, so it would hold no update"
        )
    return batches // cfg.SOLVER.ACCUMULATION
