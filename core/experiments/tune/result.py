"""Result of a tuning: budget, chosen settings and scores of each method, and the verdicts."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from core.errors import CoreError
from core.evaluation.groups import Group, Trial, adapter
from core.evaluation.verdict import Measured, Verdict, decide, measure
from core.experiments.cells import scores_of
from core.experiments.tune.plan import Plan
from core.experiments.tune.space import Value, apply, method_spec, written
from core.experiments.tune.study import (
    ENDED,
    RUNS,
    MethodStudy,
    open_storage,
    params_of,
    plan_named,
    stored_studies,
)
from core.experiments.tune.trials import MethodTrials
from core.experiments.tune.tune import Tuning
from core.formatting import auroc, capitalized, duration
from core.models.tuning.search import RATE
from core.runs.run import Run, RunState
from core.workspace import Workspace

CLOSED_FORM = "penalty chosen on validation data"
"""What the title of a method says that has no search space."""

COLUMNS = (
    "Method", "Trials", "Stopped early", "Failed", "Training", "Chosen settings",
    "Validation AUROC, default", "Validation AUROC, chosen", "Test AUROC, fresh seeds",
)  # fmt: skip


@dataclass(frozen=True)
class MethodResult:
    """Result of one method.

    Attributes:
        method: Name of the method.
        title: The method with its budget: ``LoRA r 4 (tuned, 8 trials)``.
        trials: Number of trials that have started.
        pruned: Number of them that were stopped early.
        failed: Number of them that failed.
        seconds: Seconds of training of all trials.
        default: Mean best validation AUROC of the default settings over the tuning seeds; None
            unless that trial is completed.
        chosen: That of the chosen settings; None without a completed trial.
        settings: The chosen values by name.
        number: Number of the chosen trial, from 1.
        trial_runs: Ids of all runs of the trials.
        finals: Runs with the chosen settings and the final seeds, in their order.
        problem: Why the result is incomplete; empty if it is complete.
    """

    method: str
    title: str
    trials: int
    pruned: int
    failed: int
    seconds: float
    default: float | None
    chosen: float | None
    settings: dict[str, Value]
    number: int | None
    trial_runs: tuple[str, ...]
    finals: tuple[Run, ...]
    problem: str

    @property
    def test(self) -> float | None:
        """Mean test AUROC of the final runs; None unless all are completed."""
        scores = scores_of(self.finals)
        complete = not self.problem and len(scores) == len(self.finals) > 0
        return statistics.fmean(scores) if complete else None


@dataclass(frozen=True)
class Pair:
    """Two methods with their verdict; the error if they cannot be compared."""

    first: str
    second: str
    verdict: Verdict | CoreError


@dataclass(frozen=True)
class RatePoint:
    """One trial in the figure of validation AUROC over learning rate.

    Attributes:
        rate: Peak learning rate.
        auroc: Mean best validation AUROC over the tuning seeds; of a trial that was stopped early,
            up to that epoch.
        complete: Whether the trial was completed.
        default: Whether it has the default settings.
        chosen: Whether its settings were chosen.
    """

    rate: float
    auroc: float
    complete: bool
    default: bool
    chosen: bool


@dataclass(frozen=True)
class Result:
    """Result of a tuning.

    Attributes:
        name: Name of the tuning.
        methods: Result of each method.
        pairs: Verdicts on the final runs of each pair of methods.
    """

    name: str
    methods: tuple[MethodResult, ...]
    pairs: tuple[Pair, ...]

    @property
    def complete(self) -> bool:
        """Whether all methods have all of their final runs."""
        return not any(method.problem for method in self.methods)


def result_of(tuning: Tuning) -> Result:
    """The result of a tuning, as far as it has come; verdicts are corrected for their number."""
    methods = tuple(_method_result(tuning, method) for method in tuning.methods)
    groups = {each.method: _group(each) for each in methods if not each.problem}
    measured = {
        (first, second): _measured(groups[first], groups[second])
        for first, second in itertools.combinations(groups, 2)
    }
    decided = iter(decide([each for each in measured.values() if isinstance(each, Measured)]))
    pairs = tuple(
        Pair(*names, next(decided) if isinstance(each, Measured) else each)
        for names, each in measured.items()
    )
    return Result(tuning.name, methods, pairs)


def rate_points(workspace: Workspace, name: str) -> dict[str, tuple[RatePoint, ...]]:
    """Validation AUROC over learning rate, by the method's name, in the order of the rates.

    Data of a figure that marks the default and the chosen settings; nothing of the test split.
    Methods whose learning rate is not tuned are left out.

    Args:
        workspace: The workspace.
        name: Name of a tuning in it, finished or not (see ``study.stored_names``).

    Raises:
        ConfigurationError: There is no tuning of this name.
    """
    storage = open_storage(workspace)
    plan = plan_named(storage, name)
    return {
        study.method: _rate_points(plan, study)
        for study in stored_studies(storage, name)
        if any(setting.name == RATE for setting in study.space)
    }


def rows(result: Result) -> list[tuple[str, ...]]:
    """The table of the result, in the columns of ``COLUMNS``."""
    return [
        (
            capitalized(each.title.rpartition(" (")[0]),
            str(each.trials),
            str(each.pruned),
            str(each.failed),
            duration(each.seconds),
            _settings_text(each),
            auroc(each.default),
            auroc(each.chosen),
            f"{auroc(each.test)} ({len(each.finals)})" if each.test is not None else "–",
        )
        for each in result.methods
    ]


def sentences(result: Result) -> list[str]:
    """The verdict of each pair with its notes, and what is missing."""
    lines = []
    for pair in result.pairs:
        if isinstance(pair.verdict, CoreError):
            lines.append(f"{pair.first} and {pair.second} cannot be compared: {pair.verdict}")
        else:
            lines += [pair.verdict.sentence, *(f"  {note}" for note in pair.verdict.notes)]
    return [*lines, *(each.problem for each in result.methods if each.problem)]


def as_json(result: Result) -> dict[str, Any]:
    """The result as a JSON value."""
    return {
        "name": result.name,
        "complete": result.complete,
        "methods": [
            {
                "method": each.method,
                "title": each.title,
                "trials": each.trials,
                "pruned": each.pruned,
                "failed": each.failed,
                "seconds": round(each.seconds, 1),
                "settings": each.settings,
                "chosen_trial": each.number,
                "validation_auroc": {"default": each.default, "chosen": each.chosen},
                "test_auroc": each.test,
                "trial_runs": list(each.trial_runs),
                "final_runs": {str(run.spec.train.seed): run.id for run in each.finals},
                "problem": each.problem or None,
            }
            for each in result.methods
        ],
        "pairs": [
            {"first": pair.first, "second": pair.second, "error": str(pair.verdict)}
            if isinstance(pair.verdict, CoreError)
            else {
                "first": pair.first,
                "second": pair.second,
                "sentence": pair.verdict.sentence,
                "evidence": pair.verdict.evidence,
                "notes": list(pair.verdict.notes),
            }
            for pair in result.pairs
        ],
    }


def _method_result(tuning: Tuning, method: MethodTrials) -> MethodResult:
    study, trials = method.study, method.study.trials()
    started = [trial for trial in trials if trial.state is not TrialState.WAITING]
    states = [trial.state for trial in started]
    winner, finals = study.winner, tuning.final_runs(study)
    ordered = tuple(finals[seed] for seed in tuning.plan.final_seeds if seed in finals)
    first = trials[0] if trials else None
    spec = ordered[0].spec if ordered else method_spec(tuning.plan.base, study.method)
    count = f"tuned, {len(started)} trial{'s' * (len(started) != 1)}"
    return MethodResult(
        study.method,
        f"{adapter(spec)} ({count if study.space else CLOSED_FORM})",
        len(started),
        states.count(TrialState.PRUNED),
        states.count(TrialState.FAIL),
        method.seconds(),
        first.value if first and first.state is TrialState.COMPLETE else None,
        winner.value if winner else None,
        dict(params_of(winner)) if winner else {},
        winner.number + 1 if winner else None,
        tuple(id_ for trial in started for id_ in trial.user_attrs.get(RUNS, {}).values()),
        ordered,
        _problem(tuning, method, winner, ordered),
    )


def _problem(
    tuning: Tuning, method: MethodTrials, winner: FrozenTrial | None, finals: Sequence[Run]
) -> str:
    if not method.done:
        return f"{method.title}: not all trials have ended."
    if winner is None:
        reasons = [trial.user_attrs.get(ENDED) for trial in method.study.trials(TrialState.FAIL)]
        last = f" The last one: {reasons[-1]}" if reasons else ""
        return f"{method.title}: no trial is completed.{last}"
    missing = len(tuning.plan.final_seeds) - len(finals)
    unfinished = [run for run in finals if run.state is not RunState.COMPLETED]
    if missing or unfinished:
        reason = next((run.failure_reason for run in unfinished if run.failure_reason), None)
        return (
            f"{method.title}: {missing + len(unfinished)} of {len(tuning.plan.final_seeds)} final "
            f"runs are not completed.{f' {reason}' if reason else ''} Continue the tuning."
        )
    return ""


def _group(result: MethodResult) -> Group:
    trials = tuple(Trial(run.id, run.spec, run.folder) for run in result.finals)
    return Group(result.title, result.finals[0].spec, trials, tuned=RATE in result.settings)


def _measured(first: Group, second: Group) -> Measured | CoreError:
    try:
        return measure(first, second)
    except CoreError as error:
        return error


def _rate_points(plan: Plan, study: MethodStudy) -> tuple[RatePoint, ...]:
    winner, spec = study.winner, method_spec(plan.base, study.method)
    points = [
        RatePoint(
            apply(spec, study.space, params_of(trial)).resolved().train.lr,
            trial.value,
            trial.state is TrialState.COMPLETE,
            trial.number == 0,
            winner is not None and trial.number == winner.number,
        )
        for trial in study.trials(TrialState.COMPLETE, TrialState.PRUNED)
        if trial.value is not None
    ]
    return tuple(sorted(points, key=lambda point: point.rate))


def _settings_text(result: MethodResult) -> str:
    if not result.settings:
        return "–"
    text = written(result.settings)
    return f"{text} (the defaults)" if result.number == 1 else text
