"""Models and data sets that were opened once and are kept, and the maps they gave.

One process-wide gallery serves all pages. PyTorch loads with the first model, or in the background
as soon as somebody opens a page that will need it (``warm``).
"""

from __future__ import annotations

import importlib
import math
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
from core.errors import DataError
from core.metrics import operating_point
from core.runs import queue
from core.runs.run import Run
from core.runs.store import Store
from core.workspace import Workspace

if TYPE_CHECKING:
    from core.classifier.trained import Trained
    from core.saliency.out_of_distribution import Familiar, Likeness
    from core.saliency.request import Request

MODELS = 6
DATASETS = 3
MAPS = 24
PREDICTIONS = 24
HEAVY = (
    "torch",
    "timm",
    "peft",
    "pytorch_grad_cam",
    "core.classifier.trained",
    "core.saliency.request",
)

Kept = TypeVar("Kept")


@dataclass(frozen=True)
class Predictions:
    """What a run predicted on one split.

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
class Loaded:
    """A run's model in memory.

    Attributes:
        run: The run.
        trained: Its model at the best epoch.
        lock: Held while a map is made: hooks on the layers allow one at a time.
    """

    run: Run
    trained: Trained
    lock: threading.Lock = field(default_factory=threading.Lock)


class LruCache:
    """Keeps the few things used last.

    Args:
        size: How many.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._things: OrderedDict[Hashable, object] = OrderedDict()
        self._lock = threading.Lock()
        self._making: dict[Hashable, threading.Lock] = {}

    def get(self, key: Hashable, make: Callable[[], Kept]) -> Kept:
        """Give what is kept under a key, or make it; two threads never make the same at once."""
        with self._lock:
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._lock:
                if key in self._things:
                    self._things.move_to_end(key)
                    return self._things[key]  # type: ignore[return-value]
            made = make()
            with self._lock:
                self._things[key] = made
                while len(self._things) > self._size:
                    self._making.pop(self._things.popitem(last=False)[0], None)
            return made


class ModelCache:
    """Opens runs, data sets and maps, and keeps those used last.

    Args:
        workspace: Where the runs' folders are.
        store: Which runs there are.
    """

    def __init__(self, workspace: Workspace, store: Store) -> None:
        self._workspace = workspace
        self._store = store
        self._models = LruCache(MODELS)
        self._datasets = LruCache(DATASETS)
        self._predictions = LruCache(PREDICTIONS)
        self._maps = LruCache(MAPS)
        self._familiar = LruCache(MODELS)

    def warm(self, *, idle: bool = False) -> None:
        """Load PyTorch and grad-cam in the background, so that the first map comes sooner.

        Args:
            idle: Stop as soon as a run waits or computes, which has more use for the processor.
        """

        def load() -> None:
            for name in HEAVY:
                if idle and self._store.list(states=queue.PENDING, limit=1):
                    return
                importlib.import_module(name)

        threading.Thread(target=load, name="warm", daemon=True).start()

    def model(self, run_id: str) -> Loaded:
        """A run's model.

        Raises:
            RunError: There is no such run.
            ModelError: The run has no weights, or they cannot be loaded.
        """
        run = self._store.get(run_id)

        def load() -> Loaded:
            from core.classifier.trained import load_trained

            return Loaded(run, load_trained(self._workspace.run(run.id)))

        return self._models.get((run.id, run.finished_at), load)

    def dataset(self, spec: DataSpec) -> ChestDataset:
        """A run's data set.

        Raises:
            DataError: The data set is missing or incomplete.
        """
        return self._datasets.get(spec.source(), lambda: open_data(spec))

    def predictions(self, run_id: str, split: str) -> Predictions:
        """What a run predicted on a split when it ended.

        Raises:
            RunError: There is no such run.
            DataError: The run left no predictions of this split.
        """
        run = self._store.get(run_id)
        path = self._workspace.run(run.id) / "predictions" / f"{split}.npz"

        def read() -> Predictions:
            try:
                with np.load(path, allow_pickle=False) as file:
                    return Predictions(
                        tuple(str(one) for one in file["ids"]),
                        tuple(str(one) for one in file["findings"]),
                        file["labels"],
                        file["scores"],
                    )
            except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
                raise DataError(
                    f"The run “{run.name}” left no predictions of its {split} split.",
                    "Evaluate the run, or train it again.",
                ) from error

        return self._predictions.get((run.id, run.finished_at, split), read)

    def thresholds(self, run_id: str) -> dict[str, float]:
        """A run's operating points: Youden's on its validation split, by finding.

        Findings without both classes in that split are left out, and all are if the run left no
        predictions.
        """
        try:
            found = self.predictions(run_id, "val")
        except DataError:
            return {}
        points = {
            name: operating_point.operating_point(
                found.labels[:, i], found.probabilities[:, i]
            ).threshold
            for i, name in enumerate(found.findings)
        }
        return {name: at for name, at in points.items() if not math.isnan(at)}

    def likeness(self, run_id: str, picture: NDArray[np.uint8]) -> Likeness:
        """How far a picture is from those the run was validated on.

        The first picture waits until up to 256 validation pictures have passed the model.

        Raises:
            CoreError: As ``core.saliency.out_of_distribution.familiar``, or the data set is gone.
        """
        from core.data.cache.image_cache import ImageCache
        from core.saliency import out_of_distribution

        loaded = self.model(run_id)

        def learn() -> Familiar:
            dataset = self.dataset(loaded.run.spec.data)
            cache = ImageCache(self._workspace.cache, dataset, loaded.trained.side)
            ids = dataset.ids("val")
            few = ids[:: max(1, len(ids) // out_of_distribution.MOST)][: out_of_distribution.MOST]
            cache.ensure(few)
            return out_of_distribution.familiar(loaded.trained, [cache.get(one) for one in few])

        with loaded.lock:
            known = self._familiar.get((loaded.run.id, loaded.run.finished_at), learn)
            return out_of_distribution.likeness(loaded.trained, known, picture)

    def explain(
        self, run_id: str, study_id: str, finding: str, method: str, layer: str | None
    ) -> Request:
        """Where a run's model looks on a study of its own data set.

        Raises:
            CoreError: As ``core.saliency.request.explain_study_of``.
        """
        loaded = self.model(run_id)
        return self.explain_in(loaded.run.spec.data, run_id, study_id, finding, method, layer)

    def explain_in(
        self,
        data: DataSpec,
        run_id: str,
        study_id: str,
        finding: str,
        method: str,
        layer: str | None,
    ) -> Request:
        """The same for a study of any data set, such as that of another run.

        Raises:
            CoreError: As ``core.saliency.request.explain_study_of``.
        """
        from core.saliency.request import explain_study_of

        loaded, dataset = self.model(run_id), self.dataset(data)

        def make() -> Request:
            with loaded.lock:
                return explain_study_of(loaded.trained, dataset, study_id, finding, method, layer)

        at = (loaded.run.id, loaded.run.finished_at, data, study_id, finding, method, layer)
        return self._maps.get(at, make)

    def explain_picture(
        self,
        run_id: str,
        image: NDArray[np.uint8],
        finding: str,
        method: str,
        layer: str | None,
    ) -> Request:
        """The same for a picture of the user's own; nothing of it is kept.

        Raises:
            CoreError: As ``core.saliency.explain.explain_study``.
        """
        from core.saliency.explain import explain_study
        from core.saliency.request import Request

        loaded = self.model(run_id)
        with loaded.lock:
            found = explain_study(loaded.trained, image, finding, method, layer)
        return Request(title="Uploaded picture", image=image, explanation=found)


_galleries: dict[Workspace, ModelCache] = {}


def model_cache(workspace: Workspace, store: Store) -> ModelCache:
    """The gallery of a workspace, shared by all pages of this process."""
    return _galleries.setdefault(workspace, ModelCache(workspace, store))
