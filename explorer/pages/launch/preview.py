"""The launch form's two questions to the core: what would this run cost, and start it."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from core import formatting
from core.config import command_line
from core.config.run import AdapterSpec, DataSpec, RunSpec
from core.data.datasets import registered
from core.data.datasets.registry import DATASETS
from core.errors import ConfigurationError, CoreError
from core.models.tuning.registry import TUNING_METHODS
from core.resources import estimate, memory, preflight
from core.runs import queue
from core.runs.store import Run, RunState, Store
from core.training import trackers as tracking
from core.workspace import Workspace
from explorer.components.dataset_choice import options
from explorer.pages.launch import form
from explorer.templates import error_message

MOST_REPEATS = 20
WAITING = (
    '<div class="cxr-panel"><p class="cxr-muted">Counting the labels and the parameters …</p></div>'
)
ADAPTER = tuple(name for name in AdapterSpec.model_fields if name != "method")


def heeds(method: str) -> set[str]:
    """Paths of the adapter's settings that a method uses."""
    return (
        {f"adapter.{name}" for name in TUNING_METHODS[method].options}
        if method in TUNING_METHODS
        else set()
    )


def trackers() -> list[tuple[str, str]]:
    """The programs that a run's curves can be mirrored to; says of those that are missing."""
    return [
        (one.title if tracking.installed(name) else f"{one.title} (not installed)", name)
        for name, one in tracking.TRACKERS.items()
    ]


def unused(values: Mapping[str, Any]) -> set[str]:
    """Paths of the settings that do nothing with the form's data set, method and optimizer."""
    hidden = {f"adapter.{name}" for name in ADAPTER} - heeds(values["adapter.method"])
    hidden |= set(form.OPTION_PATHS) - set(options(values["data.name"]))
    if values["data.name"] not in DATASETS:  # a registered name says it all
        hidden |= {"data.root", "data.split"}
    if values["train.optimizer"] != "sgd":
        hidden.add("train.momentum")
    return hidden


def sensible(value: Any, otherwise: int, most: int) -> int:
    """The field's whole number where it lies between one and ``most``, else another."""
    value = form.number(value)
    return int(value) if isinstance(value, int | float) and 1 <= value <= most else otherwise


def spec_of(values: Mapping[str, Any], percent: float | None) -> RunSpec:
    """Read the form, leaving out what its data set and its method do not use.

    Raises:
        ConfigurationError: All faults at once; ``field`` names the first.
    """
    hidden = unused(values)
    return form.spec_of({p: v for p, v in values.items() if p not in hidden}, percent)


def as_asked(workspace: Workspace, spec: RunSpec) -> RunSpec:
    """A run as the form shows it: by the name its data set is registered under, if it still is."""
    name = registered.name_of(workspace, spec.data)
    data = spec.data.model_copy(update={"called": None})
    if name is not None:
        kept = ("label_fraction", "subset_seed", "split_file", "skip_bad")
        data = DataSpec(name=name, **{one: getattr(data, one) for one in kept})
    return spec.model_copy(update={"data": data})


def consequence(store: Store, cache: Path, values: Mapping[str, Any], percent: float | None) -> str:
    """HTML of what a run would learn from, train and take; or of what is wrong with the form."""
    try:
        spec = registered.resolved_run(store.workspace, spec_of(values, percent))
        done = store.list(states=[RunState.COMPLETED], limit=50)
        earlier = [(run.spec, run.seconds_alone) for run in done if run.seconds_alone]
        found = estimate.estimate(spec, cache, earlier)
        memory.check_memory(spec.resolved(), len(found.positives))
    except CoreError as error:
        return faulty(error)
    address = escape(form.address(spec), quote=True)
    return (
        f'<div class="cxr-panel" data-address="{address}">{_figures(found)}{_parameters(found)}'
        f"{_positives(found)}{_notes(found)}{_command(spec)}</div>"
    )


def submit(
    store: Store, values: Mapping[str, Any], percent: float | None, repeats: float | None
) -> list[Run]:
    """Queue a run, or the same with several seeds.

    Args:
        store: Where the runs are queued.
        values: What the form holds.
        percent: The free label fraction.
        repeats: Number of seeds, from the form's seed on.

    Returns:
        The runs in the queue, the first seed first.

    Raises:
        CoreError: Whatever would stop the run; nothing is queued then.
    """
    spec = registered.resolved_run(store.workspace, spec_of(values, percent))
    count = repeated(repeats)
    preflight.check(spec)
    seeds = range(spec.train.seed, spec.train.seed + count)
    return [queue.submit(store, with_seed(spec, seed)) for seed in seeds]


def repeated(repeats: float | None) -> int:
    """Read the number of seeds.

    Raises:
        ConfigurationError: It is no whole number, or out of range.
    """
    if repeats is None or repeats != int(repeats) or not 1 <= repeats <= MOST_REPEATS:
        raise ConfigurationError(
            f"The number of seeds has to be a whole number from 1 to {MOST_REPEATS}.",
            "1 is a single run; 5 allow a fair comparison.",
            field="repeats",
        )
    return int(repeats)


def with_seed(spec: RunSpec, seed: int) -> RunSpec:
    """The same run with another seed."""
    train = spec.train.model_copy(update={"seed": seed})
    return spec.model_copy(update={"train": train})


def faulty(error: CoreError) -> str:
    """HTML of a fault; the page shows it beside the field at fault, too."""
    field = error.field or ""
    cause = error.cause.removeprefix("The settings are not valid. ").removeprefix(f"{field}: ")
    shown = error_message(CoreError(cause, error.remedy))
    beside = "f-percent" if field == "data.label_fraction" else form.element(field)
    return (
        '<div class="cxr-panel" id="launch-fault">'
        f'<div data-beside="{escape(beside)}">{shown}</div>'
        '<p class="cxr-muted cxr-small">The cost is shown as soon as this is mended.</p></div>'
    )


def _figures(found: estimate.Cost) -> str:
    rows = [
        ("Labelled images", formatting.number(found.images),
         f"of {formatting.number(found.patients)} patients"),
        ("Trains", formatting.share(found.share), "of the parameters"),
        ("Takes about", formatting.duration(found.seconds), ""),
        ("Memory", "unknown" if found.memory is None else f"about {formatting.gigabytes(found.memory)}",
         f"of {formatting.gigabytes(found.capacity)}"),
    ]  # fmt: skip
    cells = "".join(
        f'<div><dt>{name}</dt><dd>{value}</dd><dd class="cxr-muted cxr-more">{more}</dd></div>'
        for name, value, more in rows
    )
    return f'<dl class="cxr-figures">{cells}</dl>'


def _parameters(found: estimate.Cost) -> str:
    words = (
        f"{formatting.number(found.trainable)} of {formatting.number(found.total)} parameters train"
    )
    width = max(100 * found.share, 0.15)
    return (
        f'<div class="cxr-bar" role="img" aria-label="{words}"><i style="width:{width:.2f}%"></i>'
        f'</div><p class="cxr-muted cxr-small">{words}. Time: {escape(found.basis)}. '
        f"Validated on {formatting.number(found.val_images)}, tested on "
        f"{formatting.number(found.test_images)} images.</p>"
    )


def _positives(found: estimate.Cost) -> str:
    most = max([*found.positives.values(), 1])
    rows = []
    for name, count in found.positives.items():
        none = ' class="cxr-none"' if count == 0 else ""
        shown = "none" if count == 0 else formatting.number(count)
        bar = f'<i style="width:{100 * count / most:.1f}%"></i>' if count else ""
        rows.append(
            f"<span{none}>{escape(name.replace('_', ' '))}</span>"
            f'<span class="cxr-bar" aria-hidden="true">{bar}</span>'
            f'<span class="cxr-num{" cxr-none" if count == 0 else ""}">{shown}</span>'
        )
    return (
        '<div class="cxr-headline"><h3>Positive images per finding</h3></div>'
        f'<div class="cxr-counts">{"".join(rows)}</div>'
    )


def _notes(found: estimate.Cost) -> str:
    return "".join(f'<p class="cxr-warn">{escape(note)}</p>' for note in found.notes)


def _command(spec: RunSpec) -> str:
    line = escape(command_line.command_line(spec))
    return (
        '<div class="cxr-headline"><h3>The same in a terminal</h3>'
        '<button type="button" class="cxr-button" data-act="copy" data-from="launch-command">Copy'
        f'</button></div><code class="cxr-command" id="launch-command">{line}</code>'
    )
