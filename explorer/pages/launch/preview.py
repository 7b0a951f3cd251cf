"""The cost of the run that the launch form describes, and its start."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from core.config import command_line
from core.config.run import AdapterSpec, DataSpec, RunSpec
from core.config.tuned import with_tuned_defaults
from core.data.datasets import registered
from core.data.datasets.registry import DATASETS
from core.errors import ConfigurationError, CoreError
from core.experiments import sweep
from core.formatting import gigabytes
from core.models.tuning.registry import TUNING_METHODS
from core.resources import estimate, memory, preflight
from core.runs import queue
from core.runs.run import Run, RunState
from core.runs.store import Store
from core.workspace import Workspace
from explorer.components.dataset_choice import options
from explorer.pages.launch import form
from explorer.templates import error_message, render_macro

TEMPLATE = "pages/launch/preview.html.j2"
MOST_SEEDS = 20
ADAPTER_PATHS = frozenset(f"adapter.{name}" for name in AdapterSpec.model_fields) - {
    "adapter.method"
}


def supported_paths(method: str) -> set[str]:
    """Paths of the adapter settings that a method supports."""
    if method not in TUNING_METHODS:
        return set()
    return {f"adapter.{name}" for name in TUNING_METHODS[method].options}


def unused(values: Mapping[str, Any]) -> set[str]:
    """Paths of settings without effect for the form's data set, method and optimizer."""
    hidden = set(ADAPTER_PATHS - supported_paths(values["adapter.method"]))
    hidden |= set(form.OPTION_PATHS) - set(options(values["data.name"]))
    if values["data.name"] not in DATASETS:  # a registered name includes folder and split
        hidden |= {"data.root", "data.split"}
    if values["train.optimizer"] != "sgd":
        hidden.add("train.momentum")
    method = AdapterSpec.model_construct(method=values["adapter.method"])
    return hidden | RunSpec.model_construct(adapter=method).without_effect()


def spec_of(values: Mapping[str, Any], percent: float | None) -> RunSpec:
    """The specification that the form describes, without settings that have no effect.

    Raises:
        ConfigurationError: With all problems at once; ``field`` names the first.
    """
    hidden = unused(values)
    used = {path: value for path, value in values.items() if path not in hidden}
    return form.spec_of(used, percent)


def run_of(workspace: Workspace, values: Mapping[str, Any], percent: float | None) -> RunSpec:
    """The run that the form would start: with its data set and its tuned defaults.

    Raises:
        ConfigurationError: As by ``spec_of``.
    """
    return with_tuned_defaults(registered.resolved_run(workspace, spec_of(values, percent)))


def with_registered_name(workspace: Workspace, spec: RunSpec) -> RunSpec:
    """A run as the form shows it: with the registered name of its data set, if there is one."""
    name = registered.name_of(workspace, spec.data)
    data = spec.data.model_copy(update={"called": None})
    if name is not None:
        of_run = {field: getattr(data, field) for field in registered.OF_RUN}
        data = DataSpec(name=name, **of_run)
    return spec.model_copy(update={"data": data})


def waiting() -> Markup:
    """Shown until the first cost is known."""
    return render_macro(TEMPLATE, "waiting")


def cost_panel(
    store: Store, cache: Path, values: Mapping[str, Any], percent: float | None
) -> Markup:
    """Data, parameters, time and memory of the form's run as HTML, or what is wrong with it.

    Args:
        store: Its completed runs make the estimate of the time more accurate.
        cache: The workspace's cache.
        values: Values of the form's fields by path.
        percent: The label fraction typed in percent.
    """
    try:
        spec = run_of(store.workspace, values, percent)
        completed = store.list(states=[RunState.COMPLETED], limit=50)
        earlier = [(run.spec, run.seconds_alone) for run in completed if run.seconds_alone]
        cost = estimate.estimate(spec, cache, earlier)
        memory.check_memory(spec.resolved(), len(cost.positives))
    except CoreError as error:
        return error_panel(error)
    return render_macro(
        TEMPLATE,
        "cost",
        cost=cost,
        memory=None if cost.memory is None else gigabytes(cost.memory),
        capacity=gigabytes(cost.capacity),
        address=form.address(spec),
        command=command_line.command_line(spec),
    )


def error_panel(error: CoreError) -> Markup:
    """An error in the form as HTML; the page also shows it under the field that caused it."""
    path = error.field or ""
    cause = error.cause.removeprefix("The settings are not valid. ").removeprefix(f"{path}: ")
    field = "f-percent" if path == "data.label_fraction" else form.element_id(path)
    message = error_message(CoreError(cause, error.remedy), field)
    return render_macro(TEMPLATE, "error_panel", message=message)


def submit(
    store: Store, values: Mapping[str, Any], percent: float | None, seeds: float | None
) -> list[Run]:
    """Queue a run, once for each seed.

    Args:
        store: The store of the runs.
        values: Values of the form's fields by path.
        percent: The label fraction typed in percent.
        seeds: Number of seeds, from the form's seed on.

    Returns:
        The queued runs, in the order of their seeds.

    Raises:
        CoreError: The run could not start; nothing is queued then.
    """
    spec = run_of(store.workspace, values, percent)
    count = seed_count(seeds)
    preflight.check(spec)
    specs = sweep.grid(spec, seeds=range(spec.train.seed, spec.train.seed + count))
    return [queue.submit(store, each) for each in specs]


def seed_count(seeds: float | None) -> int:
    """The number of seeds as a whole number.

    Raises:
        ConfigurationError: It is not a whole number, or out of range.
    """
    if seeds is None or seeds != int(seeds) or not 1 <= seeds <= MOST_SEEDS:
        raise ConfigurationError(
            f"The number of seeds must be a whole number from 1 to {MOST_SEEDS}.",
            "Use 1 for a single run, 5 for a fair comparison.",
            field="repeats",
        )
    return int(seeds)
