"""Caches of loaded models and data sets, decoded radiographs, maps and predictions.

One cache per process serves all pages. PyTorch is loaded with the first model, or in the background
as soon as a page that needs it is opened (``warm``).
"""

from __future__ import annotations

import importlib
import threading
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from core.config.run import DataSpec
from core.data.base import ChestDataset
from core.data.datasets.registry import open_data
from core.data.images.radiograph import Radiograph
from core.errors import DataError
from core.evaluation.calls import Caller, fit_caller
from core.runs import queue
from core.runs.run import Run
from core.runs.store import Store
from core.workspace import Workspace

if TYPE_CHECKING:
    from core.classifier.trained import Trained
    from core.saliency.hit_rates import HitRates
    from core.saliency.out_of_distribution import Reference, Score
    from core.saliency.request import ExplainedStudy

MODELS = 6
DATASETS = 3
RADIOGRAPHS = 4
"""Decoded radiographs in memory, each of up to about 30 MB."""
MAPS = 24
PREDICTIONS = 24
SLOW_IMPORTS = (
    "torch",
    "timm",
    "peft",
    "pytorch_grad_cam",
    "core.classifier.trained",
    "core.saliency.request",
)

Value = TypeVar("Value")


@dataclass(frozen=True)
class Predictions:
    """The predictions of a run on one split.

    Attributes:
        ids: Names of the studies.
        findings: Names of the columns.
        labels: Shape (studies, findings): 1, 0 or NaN.
        probabilities: Same shape, 0 to 1.
    """

    ids: tuple[str, ...]
    findings: tuple[str, ...]
    labels: NDArray[np.float32]
    probabilities: NDArray[np.float32]


@dataclass(frozen=True)
class LoadedModel:
    """A run's model in memory.

    Attributes:
        run: The run.
        trained: Its model at the best epoch.
        lock: Held while a map is computed: the hooks on its layers allow one map at a time.
    """

    run: Run
    trained: Trained
    lock: threading.Lock = field(default_factory=threading.Lock)


class LruCache:
    """Keeps the ``size`` most recently used values."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[Hashable, object] = OrderedDict()
        self._lock = threading.Lock()
        self._making: dict[Hashable, threading.Lock] = {}

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Return the value of a key, or make it; two threads never make the same value at once."""
        with self._lock:
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._lock:
                if key in self._values:
                    self._values.move_to_end(key)
                    return self._values[key]  # type: ignore[return-value]
            made = make()
            with self._lock:
                self._values[key] = made
                while len(self._values) > self._size:
                    self._making.pop(self._values.popitem(last=False)[0], None)
            return made


class ModelCache:
    """Loads models, data sets and radiographs, computes maps, and keeps the most recent ones."""

    def __init__(self, workspace: Workspace, store: Store) -> None:
        self._workspace = workspace
        self._store = store
        self._models = LruCache(MODELS)
        self._datasets = LruCache(DATASETS)
        self._radiographs = LruCache(RADIOGRAPHS)
        self._predictions = LruCache(PREDICTIONS)
        self._callers = LruCache(PREDICTIONS)
        self._hit_rates = LruCache(PREDICTIONS)
        self._maps = LruCache(MAPS)
        self._references = LruCache(MODELS)

    def warm(self, *, idle: bool = False) -> None:
        """Load PyTorch and grad-cam in the background, so that the first map takes less time.

        Args:
            idle: Stop as soon as a run is queued or running, which needs the processor more.
        """

        def load() -> None:
            for name in SLOW_IMPORTS:
                if idle and self._store.list(states=queue.PENDING, limit=1):
                    return
                importlib.import_module(name)

        threading.Thread(target=load, name="warm", daemon=True).start()

    def model(self, run_id: str) -> LoadedModel:
        """Return a run's model.

        Raises:
            RunError: There is no such run.
            ModelError: The run has no weights, or they cannot be loaded.
        """
        run = self._store.get(run_id)

        def load() -> LoadedModel:
            from core.classifier.trained import load_trained

            return LoadedModel(run, load_trained(self._workspace.run(run.id)))

        return self._models.get((run.id, run.finished_at), load)

    def dataset(self, spec: DataSpec) -> ChestDataset:
        """Return a run's data set.

        Raises:
            DataError: The data set is missing or incomplete.
        """
        return self._datasets.get((spec.source(), spec.fold), lambda: open_data(spec))

    def radiograph(self, spec: DataSpec, study_id: str) -> Radiograph:
        """Return a study's radiograph; its file is decoded once for the viewer and for all models.

        Raises:
            DataError: There is no such study, or its file is missing or cannot be read.
        """
        dataset = self.dataset(spec)
        # The source key changes with the file, so that a replaced file is decoded again.
        key = (spec.source(), study_id, dataset.source_key(study_id))
        return self._radiographs.get(key, lambda: dataset.radiograph(study_id))

    def predictions(self, run_id: str, split: str) -> Predictions:
        """Return what a run predicted on a split when it completed.

        Raises:
            RunError: There is no such run.
            DataError: The run has no predictions of this split.
        """
        run = self._store.get(run_id)
        path = self._workspace.run(run.id) / "predictions" / f"{split}.npz"

        def read() -> Predictions:
            try:
                with np.load(path, allow_pickle=False) as file:
                    return Predictions(
                        tuple(str(study) for study in file["ids"]),
                        tuple(str(finding) for finding in file["findings"]),
                        file["labels"],
                        file["scores"],
                    )
            except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
                raise DataError(
                    f"The run “{run.name}” has no predictions of its {split} split.",
                    "Evaluate the run, or train it again.",
                ) from error

        return self._predictions.get((run.id, run.finished_at, split), read)

    def callers(self, run_id: str) -> dict[str, Caller]:
        """Return how a run's probabilities are read, by finding, from its validation split.

        Findings without both classes in that split have none; without predictions there are none.
        """
        try:
            predictions = self.predictions(run_id, "val")
        except DataError:
            return {}
        run = self._store.get(run_id)

        def fit() -> dict[str, Caller]:
            fitted = {
                name: fit_caller(predictions.labels[:, i], predictions.probabilities[:, i])
                for i, name in enumerate(predictions.findings)
            }
            return {name: caller for name, caller in fitted.items() if caller is not None}

        return self._callers.get((run.id, run.finished_at), fit)

    def hit_rates(self, run_id: str) -> HitRates | None:
        """Return how often a run's maps hit marked regions; None if that was not measured yet."""
        from core.saliency import hit_rates

        return hit_rates.read(self._workspace.run(run_id))

    def measure_hit_rates(self, run_id: str) -> HitRates | None:
        """Return a run's hit rates; they are measured if there are none, which takes some seconds.

        None if nothing is marked in the test split; this is looked up once.

        Raises:
            CoreError: The run has no weights, the data set is missing, or the file cannot be
                written.
        """
        from core.saliency import hit_rates

        loaded = self.model(run_id)
        folder = self._workspace.run(loaded.run.id)

        def measured() -> HitRates | None:
            known = hit_rates.read(folder)
            if known is not None:
                return known
            dataset = self.dataset(loaded.run.spec.data)
            try:
                return hit_rates.measure(loaded.trained, folder, dataset, lock=lambda: loaded.lock)
            except DataError:  # nothing is marked
                return None

        return self._hit_rates.get((loaded.run.id, loaded.run.finished_at), measured)

    def out_of_distribution(self, run_id: str, image: NDArray[np.uint8]) -> Score:
        """Return the distance of an image from a run's validation images.

        For the first image, up to 256 validation images pass through the model.

        Raises:
            CoreError: As ``core.saliency.out_of_distribution.fit``, or the data set is missing.
        """
        from core.data.cache.image_cache import ImageCache
        from core.saliency import out_of_distribution

        loaded = self.model(run_id)

        def fit() -> Reference:
            dataset = self.dataset(loaded.run.spec.data)
            cache = ImageCache(self._workspace.cache, dataset, loaded.trained.side)
            ids = dataset.ids("val")
            limit = out_of_distribution.MAX_IMAGES
            sample = ids[:: max(1, len(ids) // limit)][:limit]
            cache.ensure(sample)
            return out_of_distribution.fit(loaded.trained, [cache.get(study) for study in sample])

        with loaded.lock:
            reference = self._references.get((loaded.run.id, loaded.run.finished_at), fit)
            return out_of_distribution.score(loaded.trained, reference, image)

    def explain(
        self,
        data: DataSpec,
        run_id: str,
        study_id: str,
        finding: str,
        method: str,
        layer: str | None,
    ) -> ExplainedStudy:
        """Return where a run's model looks on a study of any data set.

        Raises:
            CoreError: As ``core.saliency.request.explain_study_of``.
        """
        from core.saliency.request import explain_study_of

        loaded, dataset = self.model(run_id), self.dataset(data)

        def make() -> ExplainedStudy:
            image = self.radiograph(data, study_id).grey
            with loaded.lock:
                return explain_study_of(
                    loaded.trained, dataset, study_id, finding, method, layer, image=image
                )

        key = (loaded.run.id, loaded.run.finished_at, data, study_id, finding, method, layer)
        return self._maps.get(key, make)

    def explain_image(
        self, run_id: str, image: NDArray[np.uint8], finding: str, method: str, layer: str | None
    ) -> ExplainedStudy:
        """Return where a run's model looks on an uploaded image, which is not kept.

        Raises:
            CoreError: As ``core.saliency.explain.explain_study``.
        """
        from core.saliency.explain import explain_study
        from core.saliency.request import ExplainedStudy

        loaded = self.model(run_id)
        with loaded.lock:
            explanation = explain_study(loaded.trained, image, finding, method, layer)
        return ExplainedStudy(title="Uploaded image", image=image, explanation=explanation)


_caches: dict[Workspace, ModelCache] = {}


def model_cache(workspace: Workspace, store: Store) -> ModelCache:
    """Return the cache of a workspace, shared by all pages of this process."""
    return _caches.setdefault(workspace, ModelCache(workspace, store))
