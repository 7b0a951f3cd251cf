"""What is known about the runs that are compared: scores, curves, verdicts; knows no Gradio."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from core.config.run import RunSpec
from core.errors import CoreError
from core.evaluation import evaluate
from core.evaluation.evaluate import Scores
from core.evaluation.predictions import aligned, read_predictions
from core.evaluation.verdict import (
    Differing,
    Group,
    Trial,
    Verdict,
    differing,
    grouped,
    same_but_seed,
)
from core.evaluation.verdict import titles as settings_titles
from core.evaluation.verdict import verdict as decide
from core.metrics import delong, intervals
from core.metrics.auroc import per_finding
from core.runs.store import Run, RunState, Store
from core.workspace import Workspace
from explorer.figures.palette import Style, run_styles

MOST = 6
SPLIT = "test"
WANTED_SEEDS = 5
CLEAR = 0.05


@dataclass(frozen=True)
class Entry:
    """One of the runs that are compared.

    Attributes:
        run: The run.
        title: What tells it from the others beside it.
        style: Its look, the same in every figure of the page.
        epochs: Epochs of its validation curve.
        curve: Validation AUROC at these.
        scores: Its scores on the test split; None while there are none.
        fault: Why there are none.
    """

    run: Run
    title: str
    style: Style
    epochs: tuple[float, ...]
    curve: tuple[float, ...]
    scores: Scores | None
    fault: str


@dataclass(frozen=True)
class Judged:
    """One group against the reference.

    Attributes:
        group: The group.
        style: Its look.
        verdict: Which is better; None if that cannot be said.
        fault: Why it cannot.
    """

    group: Group
    style: Style
    verdict: Verdict | None
    fault: CoreError | None


@dataclass(frozen=True)
class Comparison:
    """Everything the page shows.

    Attributes:
        entries: The runs, in the order chosen.
        groups: Runs of equal settings, with every seed that the workspace holds.
        reference: What the others are held against; None with fewer than two groups.
        judged: The other groups.
        differing: Settings in which the runs differ.
        best: For each finding, the run that clearly ranks best, by id.
    """

    entries: tuple[Entry, ...]
    groups: tuple[Group, ...]
    reference: Group | None
    judged: tuple[Judged, ...]
    differing: tuple[Differing, ...]
    best: dict[str, str]


def gather(
    store: Store, workspace: Workspace, ids: Sequence[str], against: str | None = None
) -> Comparison:
    """Read all that is known about some runs.

    Args:
        store: The store of runs.
        workspace: Where their predictions are.
        ids: One to ``MOST`` runs.
        against: Id of a run whose group is the reference; by default full fine-tuning, else the
            first.

    Raises:
        RunError: There is no such run.
    """
    runs = [store.get(one) for one in ids]
    names = titles(runs)
    looks = run_styles([run.spec.adapter.method for run in runs])
    entries = tuple(
        _entry(store, workspace, run, name, look)
        for run, name, look in zip(runs, names, looks, strict=True)
    )
    groups = tuple(_groups(store, workspace, runs))
    by_key = {same_but_seed(one.run.spec): one.style for one in reversed(entries)}
    styles = {group.title: by_key[same_but_seed(group.spec)] for group in groups}
    reference = _reference(groups, store, against)
    judged = tuple(
        _judge(group, reference, styles[group.title], _stamp(store, group, reference))
        for group in groups
        if reference is not None and group is not reference
    )
    return Comparison(
        entries,
        groups,
        reference,
        judged,
        tuple(differing([run.spec for run in runs])) if len(runs) > 1 else (),
        _best([one for one in entries if one.scores], workspace),
    )


def titles(runs: Sequence[Run]) -> list[str]:
    """A short name for each run: method and what differs, with seed or id where that is needed."""
    names = settings_titles([run.spec for run in runs])
    names = [f"{name[:1].upper()}{name[1:]}" for name in names]
    for tail in (lambda run: f"seed {run.spec.train.seed}", lambda run: run.id[:4]):
        if len(set(names)) == len(names):
            break
        twice = {name for name in names if names.count(name) > 1}
        names = [
            f"{name} · {tail(run)}" if name in twice else name
            for name, run in zip(names, runs, strict=True)
        ]
    return names


def suggestion(runs: Sequence[Run], first: str | None = None) -> list[str]:
    """Two runs worth comparing: the latest, and one of the same data by another method.

    Args:
        runs: Completed runs, the latest first.
        first: Id of the run to find a partner for.
    """
    run = next((one for one in runs if first in (None, one.id)), None)
    if run is None:
        return []

    def apart(other: Run) -> tuple[bool, bool, bool, bool]:
        a, b = run.spec, other.spec
        return (
            a.data.name != b.data.name,
            a.data.label_fraction != b.data.label_fraction,
            a.adapter.method == b.adapter.method,
            a.train.seed != b.train.seed,
        )

    others = [one for one in runs if one.id != run.id and one.spec.data.name == run.spec.data.name]
    return [run.id, min(others, key=apart).id] if others else [run.id]


def missing_seeds(groups: Sequence[Group], wanted: int = WANTED_SEEDS) -> list[RunSpec]:
    """Runs that bring each group to ``wanted`` seeds, the same seeds for all where possible."""
    found = []
    for group in groups:
        have = {trial.spec.train.seed for trial in group.trials}
        free = [seed for seed in range(wanted + len(have)) if seed not in have]
        for seed in free[: max(0, wanted - len(have))]:
            spec = group.spec
            data = spec.data
            if data.subset_seed == spec.train.seed:
                data = data.model_copy(update={"subset_seed": None})
            train = spec.train.model_copy(update={"seed": seed})
            found.append(spec.model_copy(update={"data": data, "train": train}))
    return found


def trial_of(run: Run, workspace: Workspace) -> Trial:
    """A completed run as the verdict takes it."""
    return Trial(run.id, run.spec, workspace.run(run.id))


def has_predictions(run: Run, workspace: Workspace) -> bool:
    """Whether a run can be scored on the test split."""
    file = workspace.run(run.id) / "predictions" / f"{SPLIT}.npz"
    return run.state == RunState.COMPLETED and file.exists()


def _entry(store: Store, workspace: Workspace, run: Run, title: str, style: Style) -> Entry:
    rows = store.metrics(run.id, names=["val/auroc"])
    scores, fault = None, ""
    try:
        scores = _scores(workspace.run(run.id), run.finished_at)
    except CoreError as error:
        fault = (
            error.cause if run.state == RunState.COMPLETED else f"This run is {run.state.value}."
        )
    return Entry(
        run,
        title,
        style,
        tuple(row.epoch for row in rows),
        tuple(row.value for row in rows),
        scores,
        fault,
    )


@lru_cache(maxsize=64)
def _scores(folder: Path, finished_at: float | None) -> Scores:
    return evaluate.evaluate_run(folder, SPLIT, groups=False)


def _groups(store: Store, workspace: Workspace, runs: Sequence[Run]) -> list[Group]:
    keys = {same_but_seed(run.spec) for run in runs}
    siblings = [
        run
        for run in reversed(store.list(states=[RunState.COMPLETED]))
        if same_but_seed(run.spec) in keys and has_predictions(run, workspace)
    ]
    # Of two runs with one seed the last counts: the chosen ones come after the others.
    chosen = [run.id for run in runs]
    siblings.sort(key=lambda run: run.id in chosen)
    order = [same_but_seed(run.spec) for run in runs]
    groups = grouped([trial_of(run, workspace) for run in siblings])
    return sorted(groups, key=lambda group: order.index(same_but_seed(group.spec)))


def _reference(groups: Sequence[Group], store: Store, against: str | None) -> Group | None:
    if len(groups) < 2:
        return None
    if against:
        key = same_but_seed(store.get(against).spec)
        for group in groups:
            if same_but_seed(group.spec) == key:
                return group
    full = [group for group in groups if group.spec.adapter.method == "full"]
    return (full or list(groups))[0]


def _stamp(store: Store, first: Group, second: Group | None) -> tuple[float | None, ...]:
    trials = (*first.trials, *(second.trials if second else ()))
    return tuple(store.get(trial.id).finished_at for trial in trials)


@lru_cache(maxsize=128)
def _judge(group: Group, reference: Group, style: Style, stamp: tuple[float | None, ...]) -> Judged:
    try:
        return Judged(group, style, decide(group, reference, SPLIT), None)
    except CoreError as error:
        return Judged(group, style, None, error)


def _best(entries: Sequence[Entry], workspace: Workspace) -> dict[str, str]:
    if len(entries) < 2:
        return {}
    return _clearly_best(
        tuple((one.run.id, workspace.run(one.run.id), one.run.finished_at) for one in entries)
    )


@lru_cache(maxsize=32)
def _clearly_best(runs: tuple[tuple[str, Path, float | None], ...]) -> dict[str, str]:
    try:
        read = aligned([read_predictions(path, SPLIT) for _, path, _ in runs])
    except CoreError:
        return {}
    labels, patients = read[0].labels, read[0].patients
    each = np.array([per_finding(labels, one.scores) for one in read])
    leaders: list[int | None] = []
    tests: list[float] = []
    for f in range(labels.shape[1]):
        leader = None if np.isnan(each[:, f]).any() else int(each[:, f].argmax())
        leaders.append(leader)
        for i, one in enumerate(read):
            if leader is not None and i != leader:
                ahead = read[leader].scores[:, f]
                tests.append(
                    delong.delong_paired(labels[:, f], ahead, one.scores[:, f], patients).p
                )
    corrected = iter(intervals.holm(tests))
    best = {}
    for finding, leader in zip(read[0].findings, leaders, strict=True):
        if leader is None:
            continue
        against = [next(corrected) for _ in range(len(read) - 1)]
        if all(not math.isnan(p) and p < CLEAR for p in against):
            best[finding] = runs[leader][0]
    return best
