"""Tuned defaults from finished tunings: written to a file, and those of a workspace."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna

from core.config.run import RunSpec
from core.config.tuned import OPEN, RATE, SAME, TunedDefault, read, source_of, value_of
from core.errors import ConfigurationError
from core.experiments.tune import study as studies
from core.experiments.tune.plan import Plan
from core.experiments.tune.result import MethodResult, Result
from core.experiments.tune.space import apply, method_spec
from core.files import write_atomically
from core.models.tuning.registry import TUNING_METHODS
from core.workspace import Workspace

SHARED = (
    *(path for path in SAME if path != "adapter.method"), "data.split_file", "data.shuffle_labels"
)  # fmt: skip
"""Settings in which a run must equal the runs of a tuning, whatever its method."""

CHOSEN = ("adapter.rank", "adapter.alpha", "adapter.targets")
"""Settings without an open value, which a run must share with the tuned one."""


def tuned_default(spec: RunSpec, evidence: dict[str, Any] | None = None) -> TunedDefault:
    """The tuned default that a run with chosen settings describes.

    Args:
        spec: A run with the chosen settings.
        evidence: Runs, seeds, number of trials and scores.
    """
    options = TUNING_METHODS[spec.adapter.method].options
    same = [*SAME, *(path for path in CHOSEN if path.partition(".")[2] in options)]
    given = {path: value_of(spec, path) for path in OPEN if value_of(spec, path) is not None}
    return TunedDefault(
        {path: value_of(spec, path) for path in same},
        source_of(spec.data),
        {RATE: spec.resolved().train.lr} | given,
        evidence or {},
    )


def write_defaults(result: Result, plan: Plan, file: Path) -> int:
    """Write the chosen settings of a tuning to a file; its other entries are kept.

    Args:
        result: The result.
        plan: Its plan.
        file: The file, such as ``core.config.tuned.FILE``.

    Returns:
        Number of methods that were written; those without final runs, and those that have nothing
        to tune, are left out.

    Raises:
        ConfigurationError: The file is damaged, or its folder cannot be created.
        WriteError: The file cannot be written.
    """
    new = [
        tuned_default(each.finals[0].spec, _evidence(each, result, plan))
        for each in result.methods
        if not each.problem and TUNING_METHODS[each.method].searches
    ]
    replaced = {entry.key for entry in new}
    kept = [entry for entry in read(file) if entry.key not in replaced]
    entries = sorted([*kept, *new], key=lambda entry: entry.key)
    text = json.dumps({"defaults": [asdict(entry) for entry in entries]}, indent=1)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"{file} cannot be written ({error.strerror or error}).", "Choose another file."
        ) from error
    write_atomically(file, (text + "\n").encode(), "Choose another file.")
    return len(new)


@dataclass(frozen=True)
class Choice:
    """The choice of a tuning for one method.

    Attributes:
        plan: The plan of the tuning.
        spec: The run with the chosen settings and the seed of the plan's run.
        trials: Number of trials.
    """

    plan: Plan
    spec: RunSpec
    trials: int


def choices(workspace: Workspace) -> dict[tuple[str, str], Choice]:
    """The choices of all tunings in a workspace, by the names of tuning and method."""
    storage, chosen = studies.existing_storage(workspace), {}
    if storage is None:
        return {}
    for study in optuna.get_all_study_summaries(storage, include_best_trial=False):
        attributes = study.user_attrs
        if studies.WINNER not in attributes:
            continue
        name, _, method = study.study_name.rpartition("/")
        plan = Plan.from_json(attributes[studies.PLAN])
        space = studies.space_from_json(attributes[studies.SPACE])
        trials = storage.get_all_trials(study._study_id, deepcopy=False)
        params = trials[attributes[studies.WINNER]].params
        spec = apply(method_spec(plan.base, method), space, params)
        chosen[name, method] = Choice(plan, spec, len(trials))
    return chosen


def tunings_of(workspace: Workspace, specs: Sequence[RunSpec]) -> dict[str, tuple[str, ...]]:
    """The tunings in a workspace on the data, label fraction and backbone of runs.

    Args:
        workspace: The workspace.
        specs: The runs. Batch size and optimizer must be those of the tuning too, because the best
            learning rate depends on them.

    Returns:
        For each tuning its methods that are also those of such runs, by its name, in the order of
        creation.

    Raises:
        StoreError: The database cannot be opened.
    """
    storage = studies.existing_storage(workspace)
    if storage is None:
        return {}
    tunings = {}
    for name, plan in studies.stored_plans(storage).items():
        methods = {spec.adapter.method for spec in specs if _same_setting(spec, plan.base)}
        shared = tuple(method for method in plan.methods if method in methods)
        if shared:
            tunings[name] = shared
    return tunings


def _same_setting(spec: RunSpec, base: RunSpec) -> bool:
    return source_of(spec.data) == source_of(base.data) and all(
        value_of(spec, path) == value_of(base, path) for path in SHARED
    )


def tuned_here(workspace: Workspace) -> tuple[TunedDefault, ...]:
    """Tuned defaults of the tunings in a workspace, for ``core.config.tuned.tuned_for``."""
    return tuple(tuned_default(choice.spec) for choice in choices(workspace).values())


def _evidence(each: MethodResult, result: Result, plan: Plan) -> dict[str, Any]:
    return {
        "tuning": result.name,
        "trials": each.trials,
        "seconds": round(each.seconds, 1),
        "epochs": plan.base.train.epochs,
        "tuning_seeds": list(plan.seeds),
        "trial_runs": list(each.trial_runs),
        "validation_auroc": {"default": each.default, "chosen": each.chosen},
        "final_runs": {str(run.spec.train.seed): run.id for run in each.finals},
        "test_auroc": each.test,
    }
