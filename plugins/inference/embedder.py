"""Compute features with a trained model, from the folder of its run alone.

Legend: N items, M clips, D feature length, B items of a batch.
"""

import contextlib
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from plugins.data.build import build_test_clips
from plugins.data.clips import ClipDataset
from plugins.data.datasets.build import build_dataset, datasets_root
from plugins.data.datasets.own_names import item_names
from plugins.data.datasets.tracklet import MODALITIES, SPLITS, as_tracklet, is_image
from plugins.data.frames import frame_decoder
from plugins.data.loaders import make_loader
from plugins.engine.trainer import load_model
from plugins.errors import InputError
from plugins.evaluation.views import item_features, viewed
from plugins.inference import sources
from plugins.inference.features import Features
from plugins.inference.items import Clip, Labels
from plugins.inference.parts import Parts, items_digest, joined, labels_digest, shard_rows
from plugins.inference.readers import VideoReader, array_clips, is_video
from plugins.inference.run import describe_network, input_size, open_run
from plugins.inference.store import FeatureStore, holds_store, written_rows
from plugins.interrupts import Interrupted
from plugins.utils.locks import hold

logger = logging.getLogger(__name__)

TEST = "test"  # query + gallery
PART = 16  # batches between two files of an extraction that can be resumed
# A model of this package gives features of this length, up to rounding; they are left as they are.
UNIT = 1e-6


class Source(NamedTuple):
    """Items to compute features of.

    Attributes:
        dataset: their clips, as the run tests them.
        names: the columns of :class:`Features` without the features.
        about: what the items are, in words.
        files: files whose change would change a feature; empty for items in memory.
    """

    dataset: ClipDataset
    names: dict[str, np.ndarray]
    about: str
    files: frozenset[str] = frozenset()


class Embedder:
    """The model of a run with its own preprocessing: items in, features with names out.

    The features of a registered data set are those of ``train_net.py --eval-only`` to the bit: the
    same clips, transforms, loader, batches, mirror images and averages. An item in another batch,
    such as a file of a list or an item of a shard with TEST.CLIPS above 1, has the same feature up
    to the rounding of float32, 1e-5 in an entry. With TEST.METRIC cosine features have length 1.

    Attributes:
        cfg: the run's config.
        model: the network in evaluation, with TEST.FLIP.
        size: height and width of its input, pixels.
        clip_length: frames of a clip, T; 1 for a model that takes images.
        network: what decides a feature, see ``describe_network``.
    """

    def __init__(
        self,
        run: str | os.PathLike,
        *,
        config: str | os.PathLike = "",
        weights: str | os.PathLike = "",
        opts: Sequence = (),
        plugins: Sequence[str] = (),
    ) -> None:
        """Load the model; the arguments are those of :func:`open_run`.

        Raises:
            InputError: from the run, or the weights do not fit.
        """
        self.cfg = open_run(run, config, weights, opts, plugins)
        self.network = describe_network(self.cfg)
        model = load_model(self.cfg, self.cfg.MODEL.WEIGHTS)
        self.takes_clips = not type(model).__module__.startswith("fastreid.")
        self.model = viewed(model, self.cfg).eval()
        self.size = input_size(self.cfg)
        self.clip_length = self.cfg.INPUT.CLIP.LENGTH if self.takes_clips else 1

    def dataset(
        self,
        name: str,
        split: str = TEST,
        *,
        shard: tuple[int, int] = (0, 1),
        resume: str | os.PathLike = "",
    ) -> Features:
        """Compute the features of a registered data set in FASTREID_DATASETS.

        Args:
            name: registered name; its options are those of the run's config.
            split: train, query, gallery; or test, which is query + gallery as an evaluation has it.
            shard: (i, n) for the items of part i of n, from 0; parts are consecutive.
            resume: folder for what is done, to go on from after a stop; ``remove_parts`` removes it
                when the features are saved.

        Raises:
            InputError: no such set or split, or from reading it.
        """
        return self._extract(self._dataset(name, split), shard, resume)

    def pictures(
        self, folder: str | os.PathLike, labels: Labels | None = None, **more: Any
    ) -> Features:
        """Compute the features of the pictures below a folder, an item each.

        Args:
            folder: the folder.
            labels: tells person, camera and modality; None for visible ones of unknown people.
            more: ``shard`` and ``resume`` of :meth:`dataset`.

        Raises:
            InputError: there is no picture, one cannot be read, or from ``labels``.
        """
        return self._extract(self._pictures(folder, labels), **more)

    def clips(
        self, folder: str | os.PathLike, labels: Labels | None = None, **more: Any
    ) -> Features:
        """Compute the features of the clips below a folder: folders of frames, and videos.

        Args: as of :meth:`pictures`.
        """
        return self._extract(self._clips(folder, labels), **more)

    def files(
        self, paths: Iterable[str | os.PathLike], labels: Labels | None = None, **more: Any
    ) -> Features:
        """Compute the features of pictures, folders of frames and videos, an item each.

        Args: as of :meth:`pictures`, and ``paths``.
        """
        return self._extract(self._files(paths, labels), **more)

    def video(self, path: str | os.PathLike, labels: Labels | None = None) -> Features:
        """Compute the feature of a video that shows one person; needs PyAV."""
        return self.files([path], labels)

    def arrays(
        self,
        arrays: Sequence[Tensor | np.ndarray],
        names: Sequence[str] | None = None,
        labels: Labels | None = None,
    ) -> Features:
        """Compute the features of pictures or clips in memory, of any size and number of frames.

        Args:
            arrays: uint8, RGB; tensors have the channels first, numpy arrays last: see
                ``array_clips``.
            names: of the items; None for "0", "1", ...
            labels: as of :meth:`pictures`.

        Raises:
            InputError: an array is of another type or shape.
        """
        names = [str(number) for number in range(len(arrays))] if names is None else names
        clips, read = array_clips(arrays, names)
        return self._extract(self._source(clips, labels or Labels(), "arrays", read))

    def store(
        self,
        folder: str | os.PathLike,
        *,
        dataset: str = "",
        split: str = TEST,
        pictures: str | os.PathLike = "",
        clips: str | os.PathLike = "",
        files: Iterable[str | os.PathLike] = (),
        labels: Labels | None = None,
        dtype: str = "float32",
        shard: tuple[int, int] = (0, 1),
    ) -> FeatureStore:
        """Write features to a folder on disk as they are computed; none are kept in memory.

        The same call goes on after a stop. Processes that write other shards share the folder.

        Args:
            folder: of the store.
            dataset: a registered data set, see :meth:`dataset`; or one of the next three.
            split: of the data set.
            pictures: folder, see :meth:`pictures`.
            clips: folder, see :meth:`clips`.
            files: paths, see :meth:`files`.
            labels: as of :meth:`pictures`.
            dtype: "float16" or "float32".
            shard: (i, n) for the items of part i of n.

        Raises:
            InputError: the folder holds other features, TEST.CLIPS asks for several clips of an
                item, or from the items.
        """
        if self.cfg.TEST.CLIPS != 1:
            raise InputError(f"TEST.CLIPS: {self.cfg.TEST.CLIPS}; expected 1 for a store")
        if dataset:
            source = self._dataset(dataset, split)
        elif pictures:
            source = self._pictures(pictures, labels)
        else:
            source = self._clips(clips, labels) if clips else self._files(files, labels)
        first, last = shard_rows(len(source.dataset.items), shard, self._batch)
        about = {
            "network": self.network,
            "source": source.about,
            "items": items_digest(source.names["name"], source.files),
        }
        task = f"shard-{shard[0]}-of-{shard[1]}"
        with hold(folder, "the folder of the store", task):
            store = None
            if holds_store(folder):  # compared before anything is computed
                length = FeatureStore(folder).length
                store = FeatureStore.create(folder, source.names, length, dtype, about)
            done = written_rows(folder, shard)
            batches = row_batches(first + done, last, self._batch)
            with tells_kept(lambda: written_rows(folder, shard), last - first, folder):
                for features, rows in self._parts(source.dataset, batches) if batches else ():
                    start = first + written_rows(folder, shard)
                    assert rows.tolist() == list(range(start, start + len(rows))), "order"
                    features = unit(features) if self.cfg.TEST.METRIC == "cosine" else features
                    if store is None:
                        length = features.shape[1]
                        store = FeatureStore.create(folder, source.names, length, dtype, about)
                    store.write(shard, first, features)
            return store or FeatureStore(folder)

    def _dataset(self, name: str, split: str) -> Source:
        choices = (*SPLITS, TEST)
        if split not in choices:
            raise InputError(f"split {split!r}; expected one of {', '.join(choices)}")
        data = build_dataset(name, "the data set", cfg=self.cfg)
        query = data.train if split == "train" else data.query if split != "gallery" else []
        gallery = data.gallery if split in ("gallery", TEST) else []
        items = [*query, *gallery]
        if not items:
            raise InputError(f"{name}: its split {split} is empty")
        if not (self.takes_clips or is_image(items[0])):
            raise InputError(
                f"{name}: a set of clips, but the run's {self.cfg.MODEL.META_ARCHITECTURE} of "
                "fastreid takes images; expected a set of images"
            )
        dataset = build_test_clips(self.cfg, query, gallery, data.directions())
        columns = item_names(data, items, datasets_root())
        files = [as_tracklet(item).img_paths[0] for item in items]
        names = {**columns, "name": columns["path"], "path": np.array(files, dtype=str)}
        return Source(dataset, names, f"{name} {split}", frozenset(dataset.clip_paths()))

    def _pictures(self, folder: str | os.PathLike, labels: Labels | None) -> Source:
        return self._own(sources.find_pictures(folder), labels, f"pictures in {folder}", folder)

    def _clips(self, folder: str | os.PathLike, labels: Labels | None) -> Source:
        return self._own(sources.find_clips(folder), labels, f"clips in {folder}", folder)

    def _files(self, paths: Iterable[str | os.PathLike], labels: Labels | None) -> Source:
        return self._own(sources.find_files(paths), labels, "files")

    def _own(
        self,
        clips: list[Clip],
        labels: Labels | None,
        about: str,
        folder: str | os.PathLike = "",
    ) -> Source:
        if folder and (text := sources.describe_passed_over(folder, clips)):
            logger.warning("%s: %s", folder, text)
        videos = [clip.path for clip in clips if is_video(clip.path)]
        read = VideoReader(videos, frame_decoder(self.cfg))
        source = self._source(clips, labels or Labels(), about, read)
        shown = source.dataset.clip_paths()
        read.keep(shown)
        files = {clip.path for clip in clips if os.path.isfile(clip.path)}
        return source._replace(files=frozenset(files | {f for f in shown if os.path.isfile(f)}))

    def _source(self, clips: list[Clip], labels: Labels, about: str, read: Any) -> Source:
        tracklets = [labels.tracklet(clip) for clip in clips]
        items: list[tuple] = [*tracklets]
        if not self.takes_clips:
            for clip in clips:
                if len(clip.frames) > 1:
                    raise InputError(
                        f"{clip.name}: {len(clip.frames)} frames, but the run's "
                        f"{self.cfg.MODEL.META_ARCHITECTURE} of fastreid takes images; expected "
                        "pictures"
                    )
            items = [(item.img_paths[0], item.pid, item.camid) for item in tracklets]
        columns = {
            "name": [clip.name for clip in clips],
            "path": [clip.path for clip in clips],
            "person": [str(item.pid) for item in tracklets],
            "camera": [str(item.camid) for item in tracklets],
            "modality": [MODALITIES[item.modality] for item in tracklets],
        }
        names = {name: np.array(values, dtype=str) for name, values in columns.items()}
        return Source(build_test_clips(self.cfg, items, [], {}, read), names, about)

    def _extract(
        self, source: Source, shard: tuple[int, int] = (0, 1), resume: str | os.PathLike = ""
    ) -> Features:
        """Compute the features of a part of the items, with or without a folder to go on from."""
        first, last = shard_rows(len(source.dataset.items), shard, self._batch)
        names = {name: values[first:last] for name, values in source.names.items()}
        with contextlib.ExitStack() as held:
            parts = None
            if resume:
                folder = held.enter_context(hold(resume, "the extraction's folder", "extraction"))
                identity = {
                    "network": self.network,
                    "items": items_digest(names["name"], source.files),
                    "labels": labels_digest(names),
                    "shard": list(shard),
                    "batch": self._batch,
                }
                parts = Parts(folder, identity)
            features = self._features(source.dataset, first, last, parts)
            bad = (~features.isfinite().all(dim=1)).nonzero().flatten()
            if len(bad):
                raise InputError(
                    f"features of {len(bad)} of {len(features)} items are NaN or infinite, the "
                    f"first of {names['name'][int(bad[0])]}; check the weights (MODEL.WEIGHTS)"
                )
        about: dict[str, Any] = {"network": self.network, "source": source.about}
        if shard[1] > 1:
            about["shard"] = list(shard)
        return Features(features.numpy(), **names, about=about)

    @property
    def _batch(self) -> int:
        return self.cfg.TEST.IMS_PER_BATCH

    def _features(self, dataset: ClipDataset, first: int, last: int, parts: Parts | None) -> Tensor:
        """Compute the features (N, D) of the items from ``first`` to before ``last``."""
        clips = [clip for clip, row in enumerate(dataset.clip_rows) if first <= row < last]
        batches = [
            clips[start : start + self._batch] for start in range(0, len(clips), self._batch)
        ]
        needed = Counter(dataset.clip_rows[clip] for clip in clips)
        done = parts.read() if parts else []
        left = batches[len(done) * PART :]

        def kept() -> int:
            written = Counter(row for _, rows in done for row in rows.tolist())
            return sum(written[row] == number for row, number in needed.items())

        with tells_kept(kept, last - first, parts.folder) if parts else contextlib.nullcontext():
            for number, part in enumerate(self._parts(dataset, left), start=len(done)):
                if parts:
                    parts.write(number, *part)
                done.append(part)
        features, rows = joined(done)
        rows = rows - first
        counts = rows.bincount(minlength=last - first)
        assert len(counts) == last - first and counts.all(), "an item is missing"
        items = item_features(features, rows, counts, self.cfg)
        return unit(items) if self.cfg.TEST.METRIC == "cosine" else items

    def _parts(
        self, dataset: ClipDataset, batches: list[list[int]]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the features and the rows of PART batches at a time."""
        features, rows = [], []
        with torch.no_grad(), tqdm(total=len(batches), unit="batch", desc="features") as bar:
            for number, batch in enumerate(make_loader(self.cfg, dataset, batches), start=1):
                features.append(self.model(batch).float().cpu())
                rows.append(batch["rows"].cpu())
                bar.update()
                if len(features) == PART or number == len(batches):
                    yield torch.cat(features), torch.cat(rows)
                    features, rows = [], []


@contextlib.contextmanager
def tells_kept(kept: Callable[[], int], number: int, folder: str | os.PathLike) -> Iterator[None]:
    """Let a signal inside the block say how many items are kept.

    Args:
        kept: counts the items whose features are written.
        number: N.
        folder: where they are written.
    """
    try:
        yield
    except Interrupted as stop:
        stop.kept = f"{kept()} of {number} items are kept in {folder}; the same command goes on"
        raise


def unit(features: Tensor) -> Tensor:
    """Give features (N, D) length 1; those that have it up to rounding keep their bits."""
    lengths = features.double().norm(dim=1, keepdim=True)
    return torch.where((lengths - 1).abs() <= UNIT, features, F.normalize(features, dim=1))


def row_batches(first: int, last: int, batch: int) -> list[list[int]]:
    """Cut the rows from ``first`` to before ``last`` into batches."""
    return [list(range(start, min(start + batch, last))) for start in range(first, last, batch)]
