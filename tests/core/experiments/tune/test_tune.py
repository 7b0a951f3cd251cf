"""Tunings of runs whose AUROC is known: budget, choice, final runs, and kills."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from optuna.trial import TrialState

from core.config.run import RunSpec
from core.errors import ConfigurationError, DataError
from core.evaluation import predictions
from core.experiments.tune import result as results
from core.experiments.tune import study as studies
from core.experiments.tune import trials as trial_runs
from core.experiments.tune.plan import Plan
from core.experiments.tune.trials import Joint
from core.experiments.tune.tune import Tuning
from core.reporter import MEAN_AUROC, Reporter
from core.runs import queue
from core.runs.run import Run, RunState
from core.runs.store import Store, open_store
from core.training.loop import fine_tune
from core.workspace import Workspace, open_workspace
from tests.support import tuned_run
from tests.support.paths import ROOT
from tests.support.tuned_run import BEST, execute, plan, quality, served

PROGRAM = ROOT / "tests" / "support" / "tuned_run.py"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.experiments.tune.tune.POLL_SECONDS", 0.02)


def tuned(
    store: Store, workspace: Workspace, made: Plan, run: Any = execute, **options: Any
) -> Tuning:
    """A tuning that has been run to its end."""
    tuning = Tuning(made, store, workspace, **options)
    with served(store, workspace, run):
        tuning.run()
    return tuning


def of_trials(tuning: Tuning, store: Store) -> list[Run]:
    """All runs of trials."""
    ids = [
        run_id
        for method in tuning.methods
        for trial in method.study.trials()
        for run_id in trial.user_attrs.get(studies.RUNS, {}).values()
    ]
    return [store.get(run_id) for run_id in ids]


def test_each_method_is_tuned_with_the_same_budget(store: Store, workspace: Workspace) -> None:
    lines: list[str] = []
    tuning = tuned(store, workspace, plan(trials=6, seeds=(0, 9)), report=lines.append)
    result = results.result_of(tuning)
    assert result.complete
    assert [(each.method, each.trials, each.failed) for each in result.methods] == [
        ("lora", 6, 0), ("full", 6, 0),
    ]  # fmt: skip
    runs = of_trials(tuning, store)
    assert Counter((run.spec.adapter.method, run.spec.train.seed) for run in runs) == {
        (method, seed): 6 for method in ("lora", "full") for seed in (0, 9)
    }
    assert len({run.fingerprint for run in runs}) == 24
    for method, each in zip(tuning.methods, result.methods, strict=True):
        first, *others = method.study.trials(TrialState.COMPLETE)
        default = method.spec_of(first, 0)
        assert default.train.lr is None  # the first trial is the untuned run
        assert each.default == pytest.approx((quality(default) + quality(default.model_copy(
            update={"train": default.train.model_copy(update={"seed": 9})}))) / 2)  # fmt: skip
        assert each.chosen == max(trial.value or 0 for trial in (first, *others))
        assert each.chosen > each.default  # type: ignore[operator]
        assert {run.spec.train.seed for run in each.finals} == {1, 2}
        rates = {run.spec.train.lr for run in each.finals}
        assert len(rates) == 1
        assert rates == {float(f"{each.settings['lr']:.3g}")}
        assert each.seconds == pytest.approx(
            sum(run.seconds or 0 for run in runs if run.spec.adapter.method == each.method)
        )
    assert result.methods[0].title == "LoRA r 4 (tuned, 6 trials)"
    assert "LoRA r 4 (tuned, 6 trials)" in result.pairs[0].verdict.sentence  # type: ignore[union-attr]
    assert "full fine-tuning (tuned, 6 trials)" in result.pairs[0].verdict.sentence.replace(
        "Full", "full"
    )  # type: ignore[union-attr]
    assert any("trial 6: validation AUROC" in line for line in lines)
    assert results.as_json(result)["complete"]
    assert len(results.rows(result)[0]) == len(results.COLUMNS)
    again = tuned(store, workspace, plan(trials=6, seeds=(0, 9)))
    assert results.as_json(results.result_of(again)) == results.as_json(result)


@pytest.mark.slow
def test_real_runs_are_tuned(store: Store, workspace: Workspace, tiny: Any) -> None:
    def train(
        spec: RunSpec, folder: Path, cache: Path, report: Reporter, resume: bool
    ) -> dict[str, Any]:
        return fine_tune(spec, folder, cache, report, resume=resume)

    made = Plan(tiny(), ("lora", "linear"), trials=2, final_seeds=(1, 2))
    tuning = tuned(store, workspace, made, train)
    result = results.result_of(tuning)
    assert result.complete
    for run in of_trials(tuning, store):
        assert run.best_auroc == max(
            row.value for row in store.metrics(run.id, names=[MEAN_AUROC]) if row.value == row.value
        )
    for method, each in zip(tuning.methods, result.methods, strict=True):
        assert [len(trial.intermediate_values) for trial in method.study.trials()] == [2, 2]
        assert each.test == pytest.approx(sum(run.test_auroc or 0 for run in each.finals) / 2)
    assert "(tuned, 2 trials)" in result.pairs[0].verdict.sentence  # type: ignore[union-attr]


def test_no_test_result_is_read_before_the_choice(
    store: Store, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []

    class Scores(dict[str, Any]):
        """Scores that note who reads those of the test split."""

        def __getitem__(self, split: str) -> Any:
            reads.append(split)
            return super().__getitem__(split)

        def get(self, split: str, default: Any = None) -> Any:
            reads.append(split)
            return super().get(split, default)

    read_run, read, opened = Store._run, predictions._read, Path.open

    def watched(self: Store, row: Any) -> Run:
        run = read_run(self, row)
        if run.scores is not None:
            object.__setattr__(run, "scores", Scores(run.scores))
        return run

    def noted(path: Path, changed: int) -> Any:
        reads.append(path.stem)
        return read(path, changed)

    def opening(self: Path, mode: str = "r", *rest: Any, **more: Any) -> Any:
        if self.parent.name == "predictions" and "r" in mode:
            reads.append(self.stem)
        return opened(self, mode, *rest, **more)

    monkeypatch.setattr(Store, "_run", watched)
    monkeypatch.setattr(predictions, "_read", noted)
    monkeypatch.setattr(Path, "open", opening)
    choices: list[str] = []
    choose, finals = studies.MethodStudy.choose, Tuning._queue_finals

    def choosing(self: studies.MethodStudy) -> Any:
        assert not reads, reads
        choices.append(self.method)
        return choose(self)

    def final(self: Tuning, study: studies.MethodStudy) -> None:
        assert choices == ["lora", "full"]  # all methods, before the first final run
        finals(self, study)

    monkeypatch.setattr(studies.MethodStudy, "choose", choosing)
    monkeypatch.setattr(Tuning, "_queue_finals", final)
    tuning = tuned(store, workspace, plan())
    assert choices == ["lora", "full"]
    assert not reads, reads
    assert results.rate_points(workspace, tuning.name)
    assert not reads, reads
    results.result_of(tuning)
    assert "test" in reads  # the spy works
    assert "val" not in reads


def test_the_choice_ignores_the_test_split(store: Store, workspace: Workspace) -> None:
    def reversed_test(*given: Any) -> dict[str, Any]:
        result = execute(*given)
        test = {"auroc": 1 - result["best_auroc"], "per_finding": {}}
        return result | {"scores": {"test": test}}

    tuning = tuned(store, workspace, plan(methods=("lora",), trials=5), reversed_test)
    (method,) = results.result_of(tuning).methods
    best = max(run.best_auroc or 0 for run in of_trials(tuning, store))
    assert method.chosen == best


def test_a_training_time_is_a_budget(store: Store, workspace: Workspace) -> None:
    def a_minute(spec: RunSpec, *given: Any) -> dict[str, Any]:
        result = execute(spec, *given)
        run = next(run for run in store.list() if run.spec == spec)
        minute = 60.0 if spec.adapter.method == "lora" else 30.0
        store.update(run.id, started_at=(run.started_at or 0.0) - minute)
        return result

    tuning = tuned(store, workspace, plan(trials=None, budget=150.0), a_minute)
    lora, full = results.result_of(tuning).methods
    assert (lora.trials, full.trials) == (3, 5)
    assert lora.seconds == pytest.approx(180, abs=10)
    assert full.seconds == pytest.approx(150, abs=10)


def test_hopeless_trials_are_stopped_early(
    store: Store, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(tuned_run.EPOCH_SECONDS, "0.15")
    base = RunSpec.of(**{"train.epochs": 6, "train.device": "cpu"})
    made = Plan(base, ("lora",), trials=12, final_seeds=(1,), prune=True)
    tuning = tuned(store, workspace, made)
    (method,) = results.result_of(tuning).methods
    assert method.trials == 12
    assert method.pruned
    study = tuning.methods[0].study
    for trial in study.trials(TrialState.PRUNED):
        (run_id,) = trial.user_attrs[studies.RUNS].values()
        run = store.get(run_id)
        assert run.state is RunState.STOPPED
        epoch = trial.user_attrs[studies.PRUNED]
        others = [t.intermediate_values.get(epoch) for t in study.trials(TrialState.COMPLETE)]
        values = sorted(value for value in others if value is not None)
        assert trial.intermediate_values[epoch] <= values[len(values) // 2]
        assert 2 <= epoch < 6
    assert not [
        p
        for p in results.rate_points(workspace, tuning.name)["lora"]
        if p.chosen and not p.complete
    ]


def test_failed_stopped_and_deleted_runs_are_counted(store: Store, workspace: Workspace) -> None:
    started: list[str] = []

    def troubled(spec: RunSpec, folder: Path, *given: Any) -> dict[str, Any]:
        started.append(folder.name)
        if len(started) == 2:
            raise DataError("There are no radiographs.", "Download them.")
        if len(started) == 3:
            queue.stop(store, folder.name)
        return execute(spec, folder, *given)

    tuning = tuned(store, workspace, plan(methods=("lora",), trials=5), troubled)
    (method,) = results.result_of(tuning).methods
    assert (method.trials, method.failed, method.problem) == (5, 2, "")
    reasons = [
        trial.user_attrs[studies.ENDED] for trial in tuning.methods[0].study.trials(TrialState.FAIL)
    ]
    assert reasons == ["There are no radiographs.", "The run was stopped by the user."]


def test_a_method_that_only_fails_is_given_up(store: Store, workspace: Workspace) -> None:
    def refused(spec: RunSpec, *given: Any) -> dict[str, Any]:
        if spec.adapter.method == "full":
            raise DataError("There are no radiographs.", "Download them.")
        return execute(spec, *given)

    tuning = tuned(store, workspace, plan(trials=6), refused)
    result = results.result_of(tuning)
    lora, full = result.methods
    assert (lora.problem, full.trials, full.test) == ("", trial_runs.FAILURES, None)
    assert "no trial is completed. The last one: There are no radiographs." in full.problem
    assert not result.complete
    assert not result.pairs


def test_a_finite_space_is_tried_once(store: Store, workspace: Workspace) -> None:
    made = plan(methods=("full",), search=("layer_decay",), trials=9)
    tuning = tuned(store, workspace, made)
    decays = [trial.params["layer_decay"] for trial in tuning.methods[0].study.trials()]
    assert sorted(decays) == [0.65, 0.75, 1.0]
    assert decays[0] == 0.65


def test_trials_start_together_in_groups(store: Store, workspace: Workspace) -> None:
    def compatible(specs: Any) -> bool:
        return {spec.adapter.method for spec in specs} == {"lora"}

    tuning = tuned(store, workspace, plan(), joint=Joint(2, compatible))
    groups = Counter(run.group for run in of_trials(tuning, store))
    alone = groups.pop(None)
    # Two trials start together where two wait; on a busy machine one may have started before.
    assert set(groups.values()) == {2}
    assert alone + sum(groups.values()) == 8
    assert all(method.trials == 4 for method in results.result_of(tuning).methods)


def test_a_name_belongs_to_one_plan(store: Store, workspace: Workspace) -> None:
    tuning = tuned(store, workspace, plan(trials=1), name="mine")
    storage = studies.open_storage(workspace)
    assert studies.stored_names(storage) == ["mine"]
    assert studies.stored_plan(storage, "mine") == tuning.plan
    assert studies.stored_plan(storage, "other") is None
    with pytest.raises(ConfigurationError, match="a tuning named mine with other settings"):
        Tuning(plan(trials=2), store, workspace, "mine")
    with pytest.raises(ConfigurationError, match="Did you mean mine"):
        studies.plan_named(storage, "mien")


class Killed(BaseException):
    """Takes the place of SIGKILL at an exact statement."""


POINTS = [
    ("core.experiments.tune.study.MethodStudy.frozen", "before"),  # a trial is asked for
    ("core.experiments.tune.trials.RunFinder.runs", "before"),  # its runs are not queued yet
    ("core.experiments.tune.trials.RunFinder.runs", "after"),  # its runs are not recorded yet
    ("core.experiments.tune.study.MethodStudy.note", "after"),
    ("core.experiments.tune.study.MethodStudy.tell", "before"),
    ("core.experiments.tune.study.MethodStudy.tell", "after"),
    ("core.experiments.tune.study.MethodStudy.choose", "before"),
    ("core.experiments.tune.study.MethodStudy.choose", "after"),
    ("core.experiments.tune.tune.Tuning.final_runs", "before"),
]


@pytest.mark.parametrize(("point", "when"), POINTS)
@pytest.mark.parametrize("nth", [1, 4])
def test_killed_at_any_statement_it_loses_and_repeats_nothing(
    point: str, when: str, nth: int, store: Store, workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if "choose" in point and nth > 2:
        pytest.skip("it is called once for each method")
    owner, _, name = point.rpartition(".")
    module, _, class_name = owner.rpartition(".")
    target = getattr(sys.modules[module], class_name)
    original, calls = getattr(target, name), Counter[str]()

    def killed(*given: Any, **more: Any) -> Any:
        calls[name] += 1
        if calls[name] == nth and when == "before":
            raise Killed
        value = original(*given, **more)
        if calls[name] == nth:
            raise Killed
        return value

    made = plan(trials=3)
    with served(store, workspace):
        with monkeypatch.context() as patched, contextlib.suppress(Killed):
            patched.setattr(target, name, killed)
            Tuning(made, store, workspace).run()
        assert calls[name] >= nth
        tuning = Tuning(made, store, workspace)
        assert tuning.run()
    whole(tuning, store, made)


def whole(tuning: Tuning, store: Store, made: Plan) -> None:
    """Each trial and each final run exists once, and nothing else."""
    for method in tuning.methods:
        trials = method.study.trials()
        assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 3
        assert [trial.value for trial in trials] == [
            pytest.approx(quality(method.spec_of(trial, 0))) for trial in trials
        ]
    runs = store.list()
    assert {run.state for run in runs} == {RunState.COMPLETED}
    assert len(runs) == 2 * (3 + len(made.final_seeds))
    assert len({run.fingerprint for run in runs}) == len(runs)
    assert len(of_trials(tuning, store)) == 6


def test_the_proposals_do_not_depend_on_kills(tmp_path: Path) -> None:
    proposed = []
    for name, steps in (("whole", 1), ("killed", 4)):
        workspace = open_workspace(tmp_path / name)
        store = open_store(workspace, create=True)
        with served(store, workspace):
            for _ in range(steps):
                tuning = Tuning(plan(trials=6), store, workspace)
                with contextlib.suppress(Killed):
                    tuning.run(wait=killing(5) if steps > 1 else _pause)
            tuning.run()
        proposed.append([t.params for m in tuning.methods for t in m.study.trials()])
    assert proposed[0] == proposed[1]


def _pause(seconds: float) -> None:
    import time

    time.sleep(0.02)


def killing(steps: int) -> Any:
    """A wait that takes the place of SIGKILL after some steps."""
    waited = Counter[str]()

    def wait(seconds: float) -> None:
        waited["steps"] += 1
        if waited["steps"] > steps:
            raise Killed
        _pause(seconds)

    return wait


def test_a_second_process_is_refused(store: Store, workspace: Workspace) -> None:
    tuning = Tuning(plan(trials=1), store, workspace)
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        from core.runs import processes

        started = processes.start_of(other.pid)
        owner = {"host": processes.host(), "pid": other.pid, "process": started}
        tuning.methods[0].study.study.set_user_attr(studies.OWNER, owner)
        with pytest.raises(ConfigurationError, match="is run by another process"):
            tuning.run()
    finally:
        other.kill()
        other.communicate()
    with served(store, workspace):
        assert tuning.run()


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 4])
def test_a_killed_process_continues(tmp_path: Path, after: int) -> None:
    root = tmp_path / "workspace"
    environment = os.environ | {tuned_run.EPOCH_SECONDS: "0.2", "OMP_NUM_THREADS": "1"}

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(PROGRAM), str(root)], stdout=subprocess.PIPE, text=True,
            env=environment,
        )  # fmt: skip

    killed, seen = start(), 0
    assert killed.stdout is not None
    for line in killed.stdout:
        seen += "trial" in line
        if seen == after:
            killed.send_signal(signal.SIGKILL)
            break
    killed.communicate()
    workspace = open_workspace(root)
    store = open_store(workspace, create=False)
    worker = next((run for run in store.list() if run.state is RunState.RUNNING and run.pid), None)
    if worker is not None:
        os.kill(worker.pid or 0, signal.SIGKILL)
    again = start()
    said, _ = again.communicate(timeout=400)
    assert said.splitlines()[-1] == "complete True"
    tuning = Tuning(plan(), store, workspace)
    result = results.result_of(tuning)
    assert [(each.trials, each.failed) for each in result.methods] == [(4, 0), (4, 0)]
    runs = store.list()
    assert {run.state for run in runs} == {RunState.COMPLETED}
    assert len(runs) == len({run.fingerprint for run in runs}) == 2 * (4 + 2)


@pytest.fixture
def in_postgres(tmp_path: Path, postgres: str) -> Workspace:
    return Workspace(open_workspace(tmp_path / "workspace").root, postgres)


def test_a_store_in_postgresql_holds_the_studies(in_postgres: Workspace) -> None:
    store = open_store(in_postgres, create=True)
    tuning = tuned(store, in_postgres, plan(trials=3))
    assert results.result_of(tuning).complete
    engine = sa.create_engine(in_postgres.database or "", poolclass=sa.pool.NullPool)
    with engine.connect() as connection:
        assert {"runs", "studies", "trials"} <= set(sa.inspect(connection).get_table_names())
    engine.dispose()
    again = Tuning(plan(trials=3), open_store(in_postgres, create=False), in_postgres)
    assert len(of_trials(again, store)) == 6


def test_the_figure_marks_default_and_choice(store: Store, workspace: Workspace) -> None:
    tuning = tuned(store, workspace, plan(trials=6))
    curves = results.rate_points(workspace, tuning.name)
    assert list(curves) == ["lora", "full"]
    with pytest.raises(ConfigurationError, match="Unknown tuning"):
        results.rate_points(workspace, "another")
    for method, points in curves.items():
        assert len(points) == 6
        assert [point.rate for point in points] == sorted(point.rate for point in points)
        assert sum(point.default for point in points) == 1
        (chosen,) = (point for point in points if point.chosen)
        assert chosen.auroc == max(point.auroc for point in points)
        assert min(point.rate for point in points) < BEST[method] * 3
