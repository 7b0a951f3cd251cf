"""Scores, curves and verdicts of the runs that are compared; knows no Gradio."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from core.config.run import RunSpec
from core.config.tuned import TunedDefault, tuned_for
from core.errors import CoreError
from core.evaluation import evaluate
from core.evaluation.evaluate import Scores
from core.evaluation.groups import (
    Differing,
    Group,
    Trial,
    differing,
    folds_of,
    grouped,
    same_but_seed,
)
from core.evaluation.groups import titles as settings_titles
from core.evaluation.pixel_baseline import PIXELS, pixels_spec, sentence
from core.evaluation.predictions import aligned, read_predictions
from core.evaluation.verdict import Measured, Verdict, about_chance, decide, measure
from core.experiments.cells import is_scored
from core.experiments.tune.defaults import tuned_here
from core.formatting import capitalized
from core.metrics import intervals
from core.metrics.auroc import per_finding
from core.reporter import MEAN_AUROC
from core.runs.run import MetricRow, Run, RunState
from core.runs.store import Store
from core.workspace import Workspace
from explorer.figures.palette import Style, run_styles

MOST = 6
"""Most runs that are compared at once."""
SPLIT = "test"
WANTED_SEEDS = 5
"""Seeds per group that the page offers to queue."""
CLEAR = 0.05
"""Below this p, corrected for all tests, a run is clearly the best for a finding."""


@dataclass(frozen=True)
class ComparedRun:
    """One of the runs that are compared.

    Attributes:
        run: The run.
        title: Short name that tells it from the other compared runs.
        style: Its style in every figure of the page.
        curve: Validation AUROC, mean over findings, by epoch.
        scores: Scores on the test split; None if there are none.
        fault: Why there are none; empty otherwise.
    """

    run: Run
    title: str
    style: Style
    curve: tuple[MetricRow, ...]
    scores: Scores | None
    fault: str


@dataclass(frozen=True)
class GroupVerdict:
    """One group compared with the baseline.

    Attributes:
        group: The group.
        style: Its style in figures.
        verdict: Which of the two is better; None if they cannot be compared.
        error: Why they cannot be compared.
    """

    group: Group
    style: Style
    verdict: Verdict | None
    error: CoreError | None


@dataclass(frozen=True)
class Comparison:
    """Everything that the page shows.

    Attributes:
        runs: The runs, in the order chosen.
        groups: Runs of equal settings, with every seed that the workspace holds.
        seed_curves: For each group its style and the validation curves of its seeds.
        baseline: The group that the others are compared with; None with fewer than two groups.
        verdicts: One for each other group.
        differing: Settings in which the runs differ.
        best: For each finding, the id of the run that is clearly the best.
        pixels: For each group, whether it beats the baseline ``pixels`` on the same studies, as far
            as the workspace has runs of it.
    """

    runs: tuple[ComparedRun, ...]
    groups: tuple[Group, ...]
    seed_curves: tuple[tuple[Style, tuple[list[MetricRow], ...]], ...]
    baseline: Group | None
    verdicts: tuple[GroupVerdict, ...]
    differing: tuple[Differing, ...]
    best: dict[str, str]
    pixels: tuple[str, ...] = ()

    @property
    def about_chance(self) -> str:
        """How many of the verdicts chance alone would name; empty for a single one."""
        return about_chance([each.verdict for each in self.verdicts if each.verdict])

    @property
    def scored(self) -> list[tuple[ComparedRun, Scores]]:
        """The runs that have scores, with these."""
        return [(compared, compared.scores) for compared in self.runs if compared.scores]


def compare(
    store: Store, workspace: Workspace, ids: Sequence[str], baseline: str | None = None
) -> Comparison:
    """Compare runs.

    Args:
        store: The store of runs.
        workspace: Holds their predictions.
        ids: One to ``MOST`` ids of runs.
        baseline: Id of a run whose group is the baseline; by default full fine-tuning if there is
            one, or else the first group.

    Raises:
        RunError: There is no run of one of these ids.
    """
    runs = [store.get(name) for name in ids]
    styles = run_styles([run.spec.adapter.method for run in runs])
    compared = tuple(
        _compared_run(store, workspace, run, title, style)
        for run, title, style in zip(runs, titles(runs), styles, strict=True)
    )
    tuned = _tuned(workspace, store.version())
    groups = tuple(
        replace(group, tuned=tuned_for(group.spec, tuned))
        for group in _groups(store, workspace, runs)
    )
    first_styles = {same_but_seed(each.run.spec): each.style for each in reversed(compared)}
    reference = _baseline(groups, store, baseline)
    others = [group for group in groups if group is not reference] if reference else []
    styles_of = [first_styles[same_but_seed(group.spec)] for group in others]
    measured = [
        _measured(group, reference, _finish_times(store, group, reference))
        for group in others
        if reference is not None
    ]
    decided = iter(decide([each for each in measured if isinstance(each, Measured)]))
    verdicts = tuple(
        GroupVerdict(group, style, None, each)
        if isinstance(each, CoreError)
        else GroupVerdict(group, style, next(decided), None)
        for group, style, each in zip(others, styles_of, measured, strict=True)
    )
    return Comparison(
        compared,
        groups,
        tuple(
            (
                first_styles[same_but_seed(group.spec)],
                tuple(store.metrics(trial.id, names=[MEAN_AUROC]) for trial in group.trials),
            )
            for group in groups
        ),
        reference,
        verdicts,
        tuple(differing([run.spec for run in runs])) if len(runs) > 1 else (),
        _best([each for each in compared if each.scores], workspace),
        _against_pixels(store, workspace, groups),
    )


@lru_cache(maxsize=4)
def _tuned(workspace: Workspace, version: int) -> tuple[TunedDefault, ...]:
    """What the tunings of a workspace chose; the version of the store is part of the key."""
    return tuned_here(workspace)


def titles(runs: Sequence[Run]) -> list[str]:
    """A short name for each run: the method and what differs, with seed or id where needed."""
    names = settings_titles([run.spec for run in runs])
    names = [capitalized(name) for name in names]
    suffixes: tuple[Callable[[Run], str], ...] = (
        lambda run: f"seed {run.spec.train.seed}",
        lambda run: run.id[:4],
    )
    for suffix in suffixes:
        if len(set(names)) == len(names):
            break
        repeated = {name for name in names if names.count(name) > 1}
        names = [
            f"{name} · {suffix(run)}" if name in repeated else name
            for name, run in zip(names, runs, strict=True)
        ]
    return names


def suggestion(runs: Sequence[Run], first: str | None = None) -> list[str]:
    """Ids of two runs worth comparing: the latest, and one on the same data by another method.

    Args:
        runs: Completed runs, the latest first.
        first: Id of the run to find a partner for; by default the latest.
    """
    run = next((run for run in runs if first in (None, run.id)), None)
    if run is None:
        return []
    spec = run.spec

    def distance(other: Run) -> tuple[bool, bool, bool]:
        return (
            spec.data.label_fraction != other.spec.data.label_fraction,
            spec.adapter.method == other.spec.adapter.method,
            spec.train.seed != other.spec.train.seed,
        )

    partners = [
        other for other in runs if other.id != run.id and other.spec.data.name == spec.data.name
    ]
    return [run.id, min(partners, key=distance).id] if partners else [run.id]


def missing_seeds(groups: Sequence[Group], wanted: int = WANTED_SEEDS) -> list[RunSpec]:
    """Runs that bring each group to ``wanted`` seeds, the same seeds for all where possible."""
    missing = []
    for group in groups:
        if group.spec.adapter.combined or group.spec.adapter.imported:
            continue  # not trained
        present = {trial.spec.train.seed for trial in group.trials}
        free = [seed for seed in range(wanted + len(present)) if seed not in present]
        for seed in free[: max(0, wanted - len(present))]:
            for spec in folds_of(group.spec):
                data = spec.data
                if data.subset_seed == spec.train.seed:
                    data = data.model_copy(update={"subset_seed": None})
                train = spec.train.model_copy(update={"seed": seed})
                missing.append(spec.model_copy(update={"data": data, "train": train}))
    return missing


def _compared_run(
    store: Store, workspace: Workspace, run: Run, title: str, style: Style
) -> ComparedRun:
    rows = store.metrics(run.id, names=[MEAN_AUROC])
    scores, fault = None, ""
    try:
        scores = _scores(workspace.run(run.id), run.finished_at)
    except CoreError as error:
        fault = error.cause if run.state is RunState.COMPLETED else f"This run is {run.state}."
    return ComparedRun(run, title, style, tuple(rows), scores, fault)


@lru_cache(maxsize=64)
def _scores(folder: Path, finished_at: float | None) -> Scores:
    """Scores of a run; ``finished_at`` is part of the cache's key only."""
    return evaluate.evaluate_run(folder, SPLIT, groups=False)


def _groups(store: Store, workspace: Workspace, runs: Sequence[Run]) -> list[Group]:
    """The groups of the chosen runs, in their order, with all seeds in the workspace."""
    order = [same_but_seed(run.spec) for run in runs]
    members = [
        run
        for run in reversed(store.list(states=[RunState.COMPLETED]))
        if same_but_seed(run.spec) in order and is_scored(run, workspace)
    ]
    # Of two runs with one seed the last counts: the chosen runs come after the others.
    chosen = [run.id for run in runs]
    members.sort(key=lambda run: run.id in chosen)
    groups = grouped([Trial(run.id, run.spec, workspace.run(run.id)) for run in members])
    return sorted(groups, key=lambda group: order.index(same_but_seed(group.spec)))


def _baseline(groups: Sequence[Group], store: Store, chosen: str | None) -> Group | None:
    if len(groups) < 2:
        return None
    if chosen:
        key = same_but_seed(store.get(chosen).spec)
        for group in groups:
            if same_but_seed(group.spec) == key:
                return group
    full = [group for group in groups if group.spec.adapter.method == "full"]
    return (full or list(groups))[0]


def _finish_times(store: Store, *groups: Group) -> tuple[float | None, ...]:
    return tuple(store.get(trial.id).finished_at for group in groups for trial in group.trials)


@lru_cache(maxsize=128)
def _measured(
    group: Group, baseline: Group, finished_at: tuple[float | None, ...]
) -> Measured | CoreError:
    """The test of a group; ``finished_at`` is part of the cache's key only."""
    try:
        return measure(group, baseline, SPLIT)
    except CoreError as error:
        return error


def _against_pixels(store: Store, workspace: Workspace, groups: Sequence[Group]) -> tuple[str, ...]:
    """Sentences on the groups whose studies a run of the baseline was also trained on."""
    completed = store.list(states=[RunState.COMPLETED])
    if not any(run.spec.adapter.method == PIXELS for run in completed):
        return ()
    keys = {run.id: same_but_seed(run.spec) for run in completed}
    measured = []
    for group in groups:
        wanted = same_but_seed(pixels_spec(group.spec))
        own = [run for run in reversed(completed)
               if keys[run.id] == wanted and is_scored(run, workspace)]  # fmt: skip
        if not own or group.spec.adapter.method == PIXELS:
            continue
        pixels = grouped([Trial(run.id, run.spec, workspace.run(run.id)) for run in own])[0]
        each = _measured(group, pixels, _finish_times(store, group, pixels))
        if isinstance(each, Measured):
            measured.append(each)
    return tuple(
        sentence(each.first.title, decided)
        for each, decided in zip(measured, decide(measured), strict=True)
    )


def _best(runs: Sequence[ComparedRun], workspace: Workspace) -> dict[str, str]:
    if len(runs) < 2:
        return {}
    return _clearly_best(
        tuple((each.run.id, workspace.run(each.run.id), each.run.finished_at) for each in runs)
    )


@lru_cache(maxsize=32)
def _clearly_best(runs: tuple[tuple[str, Path, float | None], ...]) -> dict[str, str]:
    """For each finding, the id of the run whose AUROC is clearly above that of all others.

    The paired tests of the highest AUROC against the others are corrected over all findings by
    Holm's method; findings with few patients are not tested.

    Args:
        runs: Id, folder and finish time of each run.
    """
    try:
        predictions = aligned([read_predictions(folder, SPLIT) for _, folder, _ in runs])
    except CoreError:
        return {}
    labels, patients = predictions[0].labels, predictions[0].patients
    aurocs = np.array([per_finding(labels, each.scores) for each in predictions])
    leaders: list[int | None] = []
    tests: list[float] = []
    for f in range(labels.shape[1]):
        leader = None if np.isnan(aurocs[:, f]).any() else int(aurocs[:, f].argmax())
        leaders.append(leader)
        if leader is None:
            continue
        ahead = predictions[leader].scores[:, f]
        tests += [
            evaluate.auroc_test(labels[:, f], ahead, other.scores[:, f], patients).p
            for i, other in enumerate(predictions)
            if i != leader
        ]
    corrected = iter(intervals.holm(tests))
    best = {}
    for finding, leader in zip(predictions[0].findings, leaders, strict=True):
        if leader is None:
            continue
        against_others = [next(corrected) for _ in range(len(predictions) - 1)]
        if all(not math.isnan(p) and p < CLEAR for p in against_others):
            best[finding] = runs[leader][0]
    return best
