import importlib.util
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.config.run import RunSpec
from core.errors import ConfigurationError, Stopped
from core.reporter import NullReporter
from core.runs import queue, worker
from core.runs.run import RunState
from core.runs.store import open_store
from core.training import trackers
from core.training.trackers import TrackerKind, tracked
from core.workspace import Workspace

Tiny = Callable[..., RunSpec]


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the trackers import takes long on a busy machine."""
    monkeypatch.setattr(trackers, "COMPLETED_TIMEOUT", 300.0)


class Noting(NullReporter):
    """The run's own reporter, which notes its lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, text: str) -> None:
        self.lines.append(text)


class Faulty:
    """A tracker that fails or hangs in one of its steps."""

    def __init__(self, at: str, does: Callable[[], None]) -> None:
        self._at, self._does = at, does

    def __getattr__(self, step: str) -> Callable[..., None]:
        return lambda *given, **named: self._does() if step == self._at else None


def fails() -> None:
    raise RuntimeError("the server is away\nand more of it")


def tracking(names: str) -> RunSpec:
    return RunSpec.of(**{"train.track": names})


def events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """The curves that TensorBoard would show."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder)).Reload()
    return {
        name: [(one.step, one.value) for one in found.Scalars(name)]
        for name in found.Tags()["scalars"]
    }


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_run_is_mirrored_and_a_broken_tracker_does_not_hurt_it(
    tiny: Tiny, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not trackers.installed("tensorboard"):
        pytest.skip("TensorBoard is not installed: pip install tensorboard")
    broken = TrackerKind("Broken", "json", lambda place: Faulty("log", fails))
    monkeypatch.setitem(trackers.TRACKERS, "wandb", broken)
    store = open_store(workspace, create=True)
    run = queue.claim_here(store, tiny(train__track="wandb,tensorboard", train__epochs=2))
    assert worker.work(store, workspace, run.id, trackers.run) == 0
    run = store.get(run.id)
    assert run.state is RunState.COMPLETED
    shown = events(workspace.root / "tracking" / "tensorboard" / run.id)
    kept: dict[str, list[tuple[int, float]]] = {}
    for row in store.metrics(run.id):
        kept.setdefault(row.name, []).append((row.step, row.value))
    assert run.scores is not None
    assert shown.pop("test/auroc")[-1][1] == pytest.approx(run.scores["test"]["auroc"])
    best = shown.pop("val/best_auroc")[-1][1]
    assert best == pytest.approx(run.scores["val"]["auroc"])
    assert set(kept) <= set(shown)
    for name, values in kept.items():
        assert [step for step, _ in shown[name]] == [step for step, _ in values]
        assert [v for _, v in shown[name]] == pytest.approx([v for _, v in values])
    log = (workspace.run(run.id) / "log.txt").read_text()
    message = "Broken stopped receiving curves: RuntimeError: the server is away."
    assert log.count(message) == 1


@pytest.mark.filterwarnings("ignore")  # those of MLflow and what it brings along
def test_a_resumed_run_goes_on_in_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not trackers.installed("mlflow"):
        pytest.skip("MLflow is not installed: pip install mlflow")
    if importlib.util.find_spec("alembic") is None:  # mlflow-skinny has no SQL store
        monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    report = Noting()
    for steps in ((0, 1), (1, 2)):
        with tracked(tracking("mlflow"), tmp_path / "runs" / "abc", report) as report_to:
            for step in steps:
                report_to.metric("val/auroc", 0.5 + step / 10, epoch=step, step=step)
                report_to.metric("val/loss", 1.0, epoch=step, step=step)
    assert report.lines == []
    from mlflow import MlflowClient

    client = MlflowClient()
    experiment = client.get_experiment_by_name(trackers.PROJECT)
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.params["adapter.method"] == "lora"
    history = client.get_metric_history(run.info.run_id, "val/auroc")
    assert {(one.step, one.value) for one in history} == {(0, 0.5), (1, 0.6), (2, 0.7)}


@pytest.mark.parametrize("at", ["start", "store_init_configuration", "log", "finish"])
def test_a_fault_of_a_tracker_is_one_line(
    at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = TrackerKind("Broken", "json", lambda place: Faulty(at, fails))
    monkeypatch.setitem(trackers.TRACKERS, "wandb", broken)
    report = Noting()
    with tracked(tracking("wandb"), tmp_path / "runs" / "abc", report) as report_to:
        for step in range(50):
            report_to.metric("train/loss", 1.0, epoch=0, step=step)
    assert report.lines == ["Broken stopped receiving curves: RuntimeError: the server is away."]


def test_a_tracker_that_hangs_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = threading.Event()
    hanging = TrackerKind(
        "Hanging", "json", lambda place: Faulty("start", lambda: answer.wait() or None)
    )
    monkeypatch.setitem(trackers.TRACKERS, "wandb", hanging)
    monkeypatch.setattr(trackers, "STOPPED_TIMEOUT", 0.01)
    report = Noting()

    def stopped() -> None:
        with tracked(tracking("wandb"), tmp_path / "runs" / "abc", report) as report_to:
            report_to.metric("train/loss", 1.0, epoch=0, step=0)
            raise Stopped

    with pytest.raises(Stopped):
        stopped()
    answer.set()
    assert report.lines == ["Hanging stopped receiving curves: it takes too long."]


def test_a_tracker_that_is_missing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = TrackerKind("Missing", "no_such_package", lambda place: None)
    monkeypatch.setitem(trackers.TRACKERS, "wandb", missing)
    report = Noting()
    with tracked(tracking("wandb"), tmp_path / "runs" / "abc", report) as report_to:
        report_to.metric("train/loss", 1.0, epoch=0, step=0)
    (line,) = report.lines
    assert "Missing is not installed" in line
    assert "pip install no_such_package" in line


def test_who_is_told_of_a_run_does_not_change_what_it_is() -> None:
    plain = RunSpec()
    assert tracking("mlflow").fingerprint() == plain.fingerprint()
    assert "track" not in json.loads(plain.to_json())["train"]
    assert tracking("mlflow, tensorboard").train.track == "tensorboard,mlflow"
    assert RunSpec.from_json(tracking("wandb").to_json()) == tracking("wandb")
    with pytest.raises(ConfigurationError, match="not one of tensorboard, mlflow") as caught:
        tracking("comet")
    assert caught.value.field == "train.track"


def test_the_settings_are_words_and_numbers() -> None:
    found: dict[str, Any] = trackers._flat(RunSpec.of(**{"data.root": Path("/data")}).resolved())
    assert found["data.root"] == "/data"
    assert found["adapter.rank"] == 4
    assert {type(value) for value in found.values()} <= {str, int, float, bool}
