"""A run's curves in TensorBoard, MLflow, Weights & Biases or trackio as well, where asked for.

The store stays the one place that counts. A mirror is told everything from a thread of its own, so
that neither its fault nor its silence can hurt the run; accelerate's trackers do the telling.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import Any

from core.config.fields import fields
from core.config.run import RunSpec
from core.reporter import Reporter

PROJECT = "cxr-peft-explorer"
LAST_SECONDS = 10.0
"""How long a completed run waits for its mirrors to take what is left."""
STOPPED_SECONDS = 1.0
"""The same for a run that was stopped or failed, whose end is waited for."""

Values = dict[str, float]


@dataclass(frozen=True)
class Place:
    """Where a run's curves go.

    Attributes:
        run: Id of the run; the same run goes on under it when it is resumed.
        title: Its name for people.
        folder: Folder of all mirrors in the workspace.
    """

    run: str
    title: str
    folder: Path


@dataclass(frozen=True)
class Kind:
    """A program that shows curves.

    Attributes:
        title: Its name.
        package: What has to be installed.
        open: Makes accelerate's tracker for it, which is not started yet.
    """

    title: str
    package: str
    open: Callable[[Place], Any]


def run(spec: RunSpec, folder: Path, cache: Path, report: Reporter, resume: bool) -> dict[str, Any]:
    """Carry out a run as ``train.run`` does, mirrored to the trackers that it names."""
    from core.training.loop import fine_tune

    with mirrored(spec, folder, report) as told:
        result = fine_tune(spec, folder, cache, told, resume=resume)
        told.summary({f"{split}/auroc": of["auroc"] for split, of in result["scores"].items()})
        return result


@contextlib.contextmanager
def mirrored(spec: RunSpec, folder: Path, report: Reporter) -> Iterator[Mirror]:
    """A reporter that tells ``report`` everything first, and then the trackers of ``spec``.

    Args:
        spec: The run; ``train.track`` names the trackers.
        folder: The run's folder, ``runs/ID`` in its workspace.
        report: Whom the run tells; also of each tracker that is given up, in one line.
    """
    place = Place(folder.name, spec.title(), folder.parent.parent / "tracking")
    mirror = Mirror(report, place, spec)
    patience = STOPPED_SECONDS
    try:
        yield mirror
        patience = LAST_SECONDS
    finally:
        mirror.close(patience)


def installed(name: str) -> bool:
    """Whether a tracker can be used here; it is not imported."""
    return util.find_spec(TRACKERS[name].package) is not None


class Mirror:
    """Tells one reporter everything, and trackers the curves.

    Args:
        report: Answers for the run.
        place: Where the curves go.
        spec: The run; its settings are told, too.
    """

    def __init__(self, report: Reporter, place: Place, spec: RunSpec) -> None:
        self._report = report
        self._lanes: list[_Lane] = []
        self._started = False
        self._step = 0
        for name in (spec.train.track or "").split(",") if spec.train.track else ():
            if installed(name):
                self._lanes.append(_Lane(TRACKERS[name], place, _flat(spec)))
            else:
                report.log(
                    f"{TRACKERS[name].title} is not installed, so that the curves are not mirrored "
                    f"there: pip install {TRACKERS[name].package}."
                )

    def metric(self, name: str, value: float, *, epoch: float, step: int) -> None:
        """Record one value of a curve, and mirror it."""
        self._report.metric(name, value, epoch=epoch, step=step)
        self._start()
        self._step = max(self._step, step)
        for lane in self._lanes:
            lane.waiting.put(({name: float(value)}, step))
        self._give_up()

    def progress(self, fraction: float, seconds_left: float | None, phase: str) -> None:
        """Pass the progress on."""
        self._report.progress(fraction, seconds_left, phase)

    def stop_requested(self) -> bool:
        """Ask the reporter."""
        return self._report.stop_requested()

    def log(self, text: str) -> None:
        """Pass the line on."""
        self._report.log(text)

    def model(self, trainable: int, total: int, device: str) -> None:
        """Pass the numbers on; the trackers begin now, when the run's own device is set up."""
        self._report.model(trainable, total, device)
        self._start()

    def secure(self) -> None:
        """Pass it on; a mirror is no part of what a checkpoint counts."""
        self._report.secure()

    def rewind(self, kept: int) -> None:
        """Pass it on; what the run records again has the same steps and values in the mirror."""
        self._report.rewind(kept)

    def summary(self, values: dict[str, float | None]) -> None:
        """Mirror what the run ended with, at its last step."""
        known = {name: float(value) for name, value in values.items() if value is not None}
        for lane in self._lanes:
            lane.waiting.put((known, self._step))

    def close(self, patience: float) -> None:
        """Let the trackers take what is left, for so many seconds in all."""
        until = time.monotonic() + patience
        for lane in self._lanes:
            lane.waiting.put(None)
        for lane in self._lanes if self._started else ():
            lane.join(max(0.0, until - time.monotonic()))
            if lane.is_alive():
                lane.fault = lane.fault or "it takes too long"
        self._give_up()

    def _start(self) -> None:
        if not self._started:
            self._started = True
            for lane in self._lanes:
                lane.start()

    def _give_up(self) -> None:
        for lane in [one for one in self._lanes if one.fault]:
            self._lanes.remove(lane)
            self._report.log(f"{lane.kind.title} took no more of the curves: {lane.fault}.")


class _Lane(threading.Thread):
    """One tracker and what waits for it. Some bind their run to the thread that opened it."""

    def __init__(self, kind: Kind, place: Place, config: dict[str, Any]) -> None:
        super().__init__(name=kind.package, daemon=True)
        self.kind = kind
        self.waiting: queue.SimpleQueue[tuple[Values, int] | None] = queue.SimpleQueue()
        self.fault = ""
        self._place, self._config = place, config

    def run(self) -> None:
        try:
            self._tell()
        except (Exception, SystemExit) as error:  # whatever it is, it is not the run's
            said = (str(error).strip().splitlines() or [""])[0]
            self.fault = f"{type(error).__name__}{': ' if said else ''}{said}"

    def _tell(self) -> None:
        from accelerate import PartialState

        PartialState()  # the trackers ask it whether this is the main process
        tracker = self.kind.open(self._place)
        tracker.start()
        try:
            tracker.store_init_configuration(self._config)
            for values, step in self._by_step():
                tracker.log(values, step=step)
        finally:
            tracker.finish()

    def _by_step(self) -> Iterator[tuple[Values, int]]:
        """What waits, the values of one step together."""
        one = self.waiting.get()
        while one is not None:
            values, step = one
            one = self.waiting.get()
            while one is not None and one[1] == step:
                values = {**values, **one[0]}
                one = self.waiting.get()
            yield values, step


def _flat(spec: RunSpec) -> dict[str, Any]:
    """The settings by dotted name, as words and numbers; those that are open are left out."""
    resolved, found = spec.resolved(), {}
    for setting in fields():
        section, name = setting.path.split(".")
        value = getattr(getattr(resolved, section), name)
        if value is not None and setting.path != "train.track":
            found[setting.path] = value if isinstance(value, bool | int | float) else str(value)
    return found


def _tensorboard(place: Place) -> Any:
    from accelerate.tracking import TensorBoardTracker

    return TensorBoardTracker(place.run, place.folder / "tensorboard")


def _mlflow(place: Place) -> Any:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from accelerate.tracking import MLflowTracker
    from mlflow import MlflowClient, set_tracking_uri

    place.folder.mkdir(parents=True, exist_ok=True)
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        set_tracking_uri(f"sqlite:///{place.folder / 'mlflow.db'}")
    client = MlflowClient()
    experiment = client.get_experiment_by_name(PROJECT)
    known = []
    if experiment is not None:
        known = client.search_runs([experiment.experiment_id], f"tags.cxr_run = '{place.run}'")
    return MLflowTracker(
        PROJECT,
        str(place.folder / "mlflow"),
        run_id=known[0].info.run_id if known else None,
        run_name=place.title,
        tags={"cxr_run": place.run},
    )


def _wandb(place: Place) -> Any:
    import wandb
    from accelerate.tracking import WandBTracker

    place.folder.mkdir(parents=True, exist_ok=True)
    return WandBTracker(
        PROJECT,
        id=place.run,
        name=place.title,
        resume="allow",
        dir=str(place.folder),
        mode=os.environ.get("WANDB_MODE", "offline"),
        settings=wandb.Settings(console="off", silent=True),
    )


def _trackio(place: Place) -> Any:
    os.environ.setdefault("TRACKIO_DIR", str(place.folder / "trackio"))
    from accelerate.tracking import TrackioTracker

    return TrackioTracker(PROJECT, name=f"{place.title} · {place.run}", resume="allow")


TRACKERS: dict[str, Kind] = {
    "tensorboard": Kind("TensorBoard", "tensorboard", _tensorboard),
    "mlflow": Kind("MLflow", "mlflow", _mlflow),
    "wandb": Kind("Weights & Biases", "wandb", _wandb),
    "trackio": Kind("trackio", "trackio", _trackio),
}
"""The names that ``train.track`` may hold."""
