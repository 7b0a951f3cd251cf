"""Runs of trials: found or queued, watched, pruned, and scored on the validation split.

A trial is recorded before its runs are queued, and each run by its id before it is awaited. A run
that was queued just before the process was killed is found again by its fingerprint. So a tuning
that is killed at any time and started again loses no trial and repeats none.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

from core.config.run import RunSpec
from core.errors import CoreError, RunError
from core.experiments import sweep
from core.experiments.tune.plan import Plan
from core.experiments.tune.space import apply, method_spec, written
from core.experiments.tune.study import FINISHED, HELD, PRUNED, RUNS, MethodStudy, params_of
from core.models.tuning.registry import TUNING_METHODS
from core.reporter import MEAN_AUROC
from core.runs import queue
from core.runs.run import ACTIVE, Run, RunState
from core.runs.scheduler import MAX_ATTEMPTS
from core.runs.store import Store

FAILURES = 3
"""Failed trials in a row, after which a method is not tuned any further."""

Report = Callable[[str], None]
Compatible = Callable[[Sequence[RunSpec]], bool]
"""Whether runs can be trained jointly; ``core.training`` is above this package."""


@dataclass(frozen=True)
class Joint:
    """How many trials start at the same time, and which of them share a process.

    Attributes:
        parallel: Trials of each method that are queued at the same time.
        compatible: Whether runs can be trained jointly; None to train each in its own process.
    """

    parallel: int = 1
    compatible: Compatible | None = None


class RunFinder:
    """Finds or queues runs by their fingerprints, so that none is trained twice.

    Args:
        store: The store.
        joint: Which runs share a process.
    """

    def __init__(self, store: Store, joint: Joint) -> None:
        self._store = store
        self._joint = joint

    def runs(self, specs: Mapping[str, RunSpec]) -> dict[str, Run]:
        """The run of each specification, by the same names; those that are missing are queued.

        Args:
            specs: Specifications by the names that new runs get.
        """
        prints = {name: spec.fingerprint() for name, spec in specs.items()}
        known = self._by_fingerprint(set(prints.values()))
        found = {name: known[prints[name]] for name in specs if prints[name] in known}
        missing = {name: spec for name, spec in specs.items() if name not in found}
        for name, run in found.items():
            if run.state in queue.RESUMABLE:
                found[name] = queue.resume(self._store, run.id)
        return found | self._queue(missing)

    def _by_fingerprint(self, wanted: set[str]) -> dict[str, Run]:
        """The most useful run of each fingerprint: completed, active, queued, then resumable."""

        def rank(run: Run) -> int:
            if run.state is RunState.COMPLETED:
                return 0
            return 1 if run.state in ACTIVE else 2 if run.state is RunState.QUEUED else 3

        best: dict[str, Run] = {}
        for run in self._store.list():
            if run.fingerprint not in wanted or (
                run.state is RunState.COMPLETED and run.best_auroc is None
            ):
                continue
            before = best.get(run.fingerprint)
            if before is None or rank(run) < rank(before):
                best[run.fingerprint] = run
        return best

    def _queue(self, specs: Mapping[str, RunSpec]) -> dict[str, Run]:
        compatible = self._joint.compatible
        names, listed = list(specs), list(specs.values())
        if compatible is not None and len(listed) > 1 and compatible(listed):
            return dict(zip(names, self._store.create_group(listed, names), strict=True))
        return {name: queue.submit(self._store, spec, name) for name, spec in specs.items()}


def has_ended(run: Run) -> bool:
    """Whether a run will not continue by itself; one that was lost too often is not resumed."""
    lost = run.state is RunState.LOST and run.attempts >= MAX_ATTEMPTS
    return lost or run.state in (RunState.COMPLETED, RunState.STOPPED, RunState.FAILED)


def resumed_if_lost(store: Store, run: Run) -> Run:
    """The run, queued again if its process was lost."""
    if run.state is not RunState.LOST or has_ended(run):
        return run
    try:
        return queue.resume(store, run.id)
    except RunError:  # another process has resumed it
        return store.get(run.id)


class MethodTrials:
    """The trials of one method.

    Args:
        plan: The plan of the tuning.
        study: The study of the method.
        store: The store.
        joint: How many trials start at the same time.
        report: Receives a line when a trial starts or ends.
    """

    def __init__(
        self, plan: Plan, study: MethodStudy, store: Store, joint: Joint, report: Report
    ) -> None:
        self.plan = plan
        self.study = study
        self._store = store
        self._joint = joint
        self._finder = RunFinder(store, joint)
        self._report = report
        self._spec = method_spec(plan.base, study.method)
        self._exhausted = False

    @property
    def title(self) -> str:
        """Title of the method."""
        return TUNING_METHODS[self.study.method].title

    @property
    def done(self) -> bool:
        """Whether all trials have ended and no other one starts."""
        return not self._running() and not self._has_budget()

    def spec_of(self, trial: FrozenTrial, seed: int) -> RunSpec:
        """The run of a trial with one seed."""
        return sweep.with_seed(apply(self._spec, self.study.space, params_of(trial)), seed)

    def step(self) -> None:
        """Look once at all running trials, and start others as far as the budget permits."""
        for trial in self.study.trials(TrialState.RUNNING):
            if trial.user_attrs.get(HELD):
                self._release(trial)
            self._advance(trial)
        new: list[FrozenTrial] = []
        while self._has_budget() and self._running() < self._joint.parallel:
            proposed = self.study.ask()
            if proposed is None:
                self._exhausted = True
            else:
                new.append(proposed)
        if new:
            self._start(new)

    def step_stopped(self) -> bool:
        """Look once at all running trials of a stopped tuning, and start no other one.

        Runs that wait in the queue are taken from it until ``step`` puts them back; runs that have
        started continue to their end, and their trial counts.

        Returns:
            Whether no run of a trial is active.
        """
        active = False
        for trial in self.study.trials(TrialState.RUNNING):
            runs = (self._existing_runs(trial) if RUNS in trial.user_attrs else None) or []
            waiting = [run for run in runs if run.state in (RunState.QUEUED, RunState.LOST)]
            if waiting and not trial.user_attrs.get(HELD):
                self.study.note(trial, HELD, True)
            elif not waiting and not trial.user_attrs.get(HELD):
                self._advance(trial)
                active = True
            self._stop([run for run in waiting if run.state is RunState.QUEUED])
            active = active or any(run.state in ACTIVE for run in runs)
        return not active

    def seconds(self) -> float:
        """Seconds of training that the trials have taken so far, all seeds together."""
        return sum(self.trial_seconds(trial) for trial in self.study.trials())

    def trial_seconds(self, trial: FrozenTrial) -> float:
        """Seconds of training of a trial; the time of a shared process is divided by its runs."""
        total = 0.0
        for run_id in trial.user_attrs.get(RUNS, {}).values():
            with contextlib.suppress(RunError):  # it was deleted
                run = self._store.get(run_id)
                total += (run.seconds or 0.0) / ((run.environment or {}).get("together") or 1)
        return total

    def _running(self) -> int:
        return len(self.study.trials(TrialState.RUNNING))

    def _has_budget(self) -> bool:
        """Whether another trial may start; none does after the choice."""
        if self.study.winner is not None:
            return False
        trials = self.study.trials()
        asked = [trial for trial in trials if trial.state is not TrialState.WAITING]
        last = [trial.state for trial in asked if trial.state in FINISHED][-FAILURES:]
        if self._exhausted or last == [TrialState.FAIL] * FAILURES:
            return False
        if self.plan.budget is not None:
            return self.seconds() < self.plan.budget
        return len(asked) < (self.plan.trials or 0)

    def _start(self, trials: Sequence[FrozenTrial]) -> None:
        """Find or queue the runs of trials and record their ids; compatible ones share a group."""
        specs, places = {}, {}
        for trial in trials:
            for seed in self.plan.seeds:
                spec = self.spec_of(trial, seed)
                name = f"{spec.title()} · trial {trial.number + 1} ({written(trial.params)})"
                specs[name], places[name] = spec, (trial, str(seed))
        runs = self._finder.runs(specs)
        for trial in trials:
            own = {seed: runs[name].id for name, (of, seed) in places.items() if of is trial}
            self.study.note(trial, RUNS, own)
            self._report(
                f"{self.title}, trial {trial.number + 1}: {written(trial.params)} "
                f"(run {', '.join(own.values())})"
            )

    def _advance(self, trial: FrozenTrial) -> None:
        """Look once at the runs of a trial; record its epochs, and its end if they have ended."""
        if RUNS not in trial.user_attrs:  # the process was killed before it recorded them
            self._start([self.study.complete_proposal(trial)])
            return
        runs = self._present_runs(trial)
        if runs is None:
            self._end(trial, None, "A run of the trial was deleted.")
            return
        pruned = PRUNED in trial.user_attrs
        epoch = None if pruned else self._record_epochs(trial, runs)
        wrong = [run for run in runs if has_ended(run) and run.state is not RunState.COMPLETED]
        if wrong and not pruned:
            self._stop(runs)
            if all(map(has_ended, runs)):
                reason = wrong[0].failure_reason or "The run was stopped by the user."
                self._end(trial, None, reason)
            return
        if all(run.state is RunState.COMPLETED for run in runs):
            scores = [math.nan if run.best_auroc is None else run.best_auroc for run in runs]
            score = sum(scores) / len(scores)
            defined = not math.isnan(score)
            self._end(trial, score if defined else None, "" if defined else "It has no AUROC.")
        elif pruned:
            self._stop(runs)
            if all(map(has_ended, runs)):
                self._end(trial, None)
        elif epoch is not None and self._falls_behind(trial, epoch, runs):
            self.study.note(trial, PRUNED, epoch)
            self._stop(runs)

    def _release(self, trial: FrozenTrial) -> None:
        """Put the runs of a trial that were taken from the queue back into it."""
        for run in self._existing_runs(trial) or ():
            if run.state is RunState.STOPPED:
                with contextlib.suppress(RunError):  # the user has resumed it
                    queue.resume(self._store, run.id)
        self.study.note(trial, HELD, False)

    def _existing_runs(self, trial: FrozenTrial) -> list[Run] | None:
        """The runs of a trial; None if one was deleted."""
        try:
            return [self._store.get(run_id) for run_id in trial.user_attrs[RUNS].values()]
        except RunError:
            return None

    def _present_runs(self, trial: FrozenTrial) -> list[Run] | None:
        """The runs of a trial, lost ones resumed; None if one was deleted."""
        runs = self._existing_runs(trial)
        return runs and [resumed_if_lost(self._store, run) for run in runs]

    def _record_epochs(self, trial: FrozenTrial, runs: Sequence[Run]) -> int | None:
        """Record the epochs that all runs have; returns the last one if it is new."""
        curves = [self._best_by_epoch(run) for run in runs]
        shared = sorted(set.intersection(*(set(curve) for curve in curves)))
        fresh = [epoch for epoch in shared if epoch not in trial.intermediate_values]
        for epoch in fresh:
            self.study.report(trial, epoch, sum(curve[epoch] for curve in curves) / len(curves))
        return fresh[-1] if fresh else None

    def _falls_behind(self, trial: FrozenTrial, epoch: int, runs: Sequence[Run]) -> bool:
        epochs = runs[0].spec.train.epochs
        return self.plan.prune and epoch < epochs and self.study.should_prune(trial, epochs)

    def _best_by_epoch(self, run: Run) -> dict[int, float]:
        """Best validation AUROC up to each epoch of a run."""
        best, values = -math.inf, {}
        for row in self._store.metrics(run.id, names=[MEAN_AUROC]):
            if not math.isnan(row.value):
                best = max(best, row.value)
            if math.isfinite(best):
                values[round(row.epoch)] = best
        return values

    def _stop(self, runs: Sequence[Run]) -> None:
        for run in runs:
            if not has_ended(run) and run.state is not RunState.STOPPING:
                with contextlib.suppress(CoreError):  # it has ended meanwhile
                    queue.stop(self._store, run.id)

    def _end(self, trial: FrozenTrial, score: float | None, failed: str = "") -> None:
        self.study.tell(trial, score, failed)
        ended = self.study.frozen(trial.number)
        result = failed or (
            f"stopped after epoch {ended.user_attrs.get(PRUNED)}, which is below the median"
            if score is None
            else f"validation AUROC {score:.3f}"
        )
        self._report(f"{self.title}, trial {trial.number + 1}: {result}")
