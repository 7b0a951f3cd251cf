"""Experiment trackers: a run's curves in TensorBoard, MLflow, Weights & Biases or trackio as well.

The store remains the only source of results. Each tracker runs in a thread of its own, so that
neither an error nor a delay of a tracker affects the run. The trackers are those of accelerate.
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
from core.config.run import ResolvedSpec, RunSpec
from core.reporter import ForwardingReporter, Reporter

PROJECT = "cxr-peft-explorer"
COMPLETED_TIMEOUT = 10.0
"""Seconds that a completed run waits for its trackers to finish."""
STOPPED_TIMEOUT = 1.0
"""The same for a run that was stopped or failed, for whose end the user is waiting."""

Values = dict[str, float]


@dataclass(frozen=True)
class TrackedRun:
    """A run as its trackers know it.

    Attributes:
        run: Id of the run; a resumed run continues under it.
        title: Display name of the run.
        folder: Folder of all trackers in the workspace.
    """

    run: str
    title: str
    folder: Path


@dataclass(frozen=True)
class TrackerKind:
    """A supported tracker.

    Attributes:
        title: Its name.
        package: The package that must be installed.
        open: Creates accelerate's tracker for a run, without starting it.
    """

    title: str
    package: str
    open: Callable[[TrackedRun], Any]


def run(spec: RunSpec, folder: Path, cache: Path, report: Reporter, resume: bool) -> dict[str, Any]:
    """Train like ``core.training.loop.fine_tune``, with the trackers that the run names."""
    from core.training.loop import fine_tune

    with tracked(spec, folder, report) as tracking:
        result = fine_tune(spec, folder, cache, tracking, resume=resume)
        # ``val/auroc`` is a curve: the score of the best epoch must not become its last point.
        tracking.summary(
            {f"{split}/best_auroc" if split == "val" else f"{split}/auroc": scores["auroc"]
             for split, scores in result["scores"].items()}
        )  # fmt: skip
        return result


@contextlib.contextmanager
def tracked(spec: RunSpec, folder: Path, report: Reporter) -> Iterator[TrackingReporter]:
    """A reporter that forwards to ``report`` and then to the trackers of ``spec``.

    Args:
        spec: The run; ``train.track`` names the trackers.
        folder: The run's folder, ``runs/ID`` in its workspace.
        report: The run's reporter; its log names each tracker that failed, in one line.
    """
    target = TrackedRun(folder.name, spec.title(), folder.parent.parent / "tracking")
    tracking = TrackingReporter(report, target, spec.resolved())
    timeout = STOPPED_TIMEOUT
    try:
        yield tracking
        timeout = COMPLETED_TIMEOUT
    finally:
        tracking.close(timeout)


def installed(name: str) -> bool:
    """Whether a tracker's package is installed; it is not imported."""
    return util.find_spec(TRACKERS[name].package) is not None


class TrackingReporter(ForwardingReporter):
    """Forwards everything to a run's reporter, and its curves to trackers as well."""

    def __init__(self, report: Reporter, target: TrackedRun, spec: ResolvedSpec) -> None:
        super().__init__(report)
        self._threads: list[_TrackerThread] = []
        self._started = False
        self._step = 0
        for name in spec.train.track.split(",") if spec.train.track else ():
            if installed(name):
                self._threads.append(_TrackerThread(TRACKERS[name], target, _flat(spec)))
            else:
                report.log(
                    f"{TRACKERS[name].title} is not installed and receives no curves. Install it: "
                    f"pip install {TRACKERS[name].package}."
                )

    def metric(self, name: str, value: float, *, epoch: float, step: int) -> None:
        """Forward one value of a curve, also to the trackers."""
        super().metric(name, value, epoch=epoch, step=step)
        self._start()
        self._step = max(self._step, step)
        for thread in self._threads:
            thread.waiting.put(({name: float(value)}, step))
        self._drop_failed()

    def model(self, trainable: int, total: int, device: str) -> None:
        """Forward the numbers; the trackers start now that the run's device is set up."""
        super().model(trainable, total, device)
        self._start()

    def summary(self, values: dict[str, float | None]) -> None:
        """Send the final values to the trackers, at the last step."""
        known = {name: float(value) for name, value in values.items() if value is not None}
        for thread in self._threads:
            thread.waiting.put((known, self._step))

    def close(self, timeout: float) -> None:
        """Let the trackers finish, for at most ``timeout`` seconds in total."""
        until = time.monotonic() + timeout
        for thread in self._threads:
            thread.waiting.put(None)
        for thread in self._threads if self._started else ():
            thread.join(max(0.0, until - time.monotonic()))
            if thread.is_alive():
                thread.fault = thread.fault or "it takes too long"
        self._drop_failed()

    def _start(self) -> None:
        if not self._started:
            self._started = True
            for thread in self._threads:
                thread.start()

    def _drop_failed(self) -> None:
        for thread in [thread for thread in self._threads if thread.fault]:
            self._threads.remove(thread)
            self._report.log(f"{thread.kind.title} stopped receiving curves: {thread.fault}.")


class _TrackerThread(threading.Thread):
    """A tracker and the values that wait for it.

    Some trackers bind their run to the thread that opened it, so that one thread makes all calls.
    """

    def __init__(self, kind: TrackerKind, target: TrackedRun, config: dict[str, Any]) -> None:
        super().__init__(name=kind.package, daemon=True)
        self.kind = kind
        self.waiting: queue.SimpleQueue[tuple[Values, int] | None] = queue.SimpleQueue()
        self.fault = ""
        self._target, self._config = target, config

    def run(self) -> None:
        try:
            self._track()
        except (Exception, SystemExit) as error:  # no error of a tracker may end the run
            message = (str(error).strip().splitlines() or [""])[0]
            self.fault = f"{type(error).__name__}{': ' if message else ''}{message}"

    def _track(self) -> None:
        from accelerate import PartialState

        PartialState()  # the trackers ask it whether this is the main process
        tracker = self.kind.open(self._target)
        tracker.start()
        try:
            tracker.store_init_configuration(self._config)
            for values, step in self._by_step():
                tracker.log(values, step=step)
        finally:
            tracker.finish()

    def _by_step(self) -> Iterator[tuple[Values, int]]:
        """The waiting values, those of one step together."""
        item = self.waiting.get()
        while item is not None:
            values, step = item
            item = self.waiting.get()
            while item is not None and item[1] == step:
                values = {**values, **item[0]}
                item = self.waiting.get()
            yield values, step


def _flat(spec: ResolvedSpec) -> dict[str, Any]:
    """The settings that have a value, by dotted name, as text, numbers and booleans."""
    settings = {}
    for setting in fields():
        section, name = setting.path.split(".")
        value = getattr(getattr(spec, section), name)
        if value is not None and setting.path != "train.track":
            settings[setting.path] = value if isinstance(value, bool | int | float) else str(value)
    return settings


def _tensorboard(target: TrackedRun) -> Any:
    from accelerate.tracking import TensorBoardTracker

    return TensorBoardTracker(target.run, target.folder / "tensorboard")


def _mlflow(target: TrackedRun) -> Any:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from accelerate.tracking import MLflowTracker
    from mlflow import MlflowClient, set_tracking_uri

    target.folder.mkdir(parents=True, exist_ok=True)
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        set_tracking_uri(f"sqlite:///{target.folder / 'mlflow.db'}")
    client = MlflowClient()
    experiment = client.get_experiment_by_name(PROJECT)
    earlier = []
    if experiment is not None:
        earlier = client.search_runs([experiment.experiment_id], f"tags.cxr_run = '{target.run}'")
    return MLflowTracker(
        PROJECT,
        str(target.folder / "mlflow"),
        run_id=earlier[0].info.run_id if earlier else None,
        run_name=target.title,
        tags={"cxr_run": target.run},
    )


def _wandb(target: TrackedRun) -> Any:
    import wandb
    from accelerate.tracking import WandBTracker

    target.folder.mkdir(parents=True, exist_ok=True)
    return WandBTracker(
        PROJECT,
        id=target.run,
        name=target.title,
        resume="allow",
        dir=str(target.folder),
        mode=os.environ.get("WANDB_MODE", "offline"),
        settings=wandb.Settings(console="off", silent=True),
    )


def _trackio(target: TrackedRun) -> Any:
    os.environ.setdefault("TRACKIO_DIR", str(target.folder / "trackio"))
    from accelerate.tracking import TrackioTracker

    return TrackioTracker(PROJECT, name=f"{target.title} · {target.run}", resume="allow")


TRACKERS: dict[str, TrackerKind] = {
    "tensorboard": TrackerKind("TensorBoard", "tensorboard", _tensorboard),
    "mlflow": TrackerKind("MLflow", "mlflow", _mlflow),
    "wandb": TrackerKind("Weights & Biases", "wandb", _wandb),
    "trackio": TrackerKind("trackio", "trackio", _trackio),
}
"""Trackers by their name in ``train.track``."""
