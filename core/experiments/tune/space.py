"""Search space of a method on a backbone: the registry's values around the default values."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from core.config.run import RunSpec, TrainSpec
from core.data.datasets.opened import open_cached
from core.errors import ConfigurationError, CoreError, unknown_name
from core.experiments import sweep
from core.models.backbones.registry import backbone_card
from core.models.tuning.apply import count_parameters
from core.models.tuning.registry import TUNING_METHODS, tuning_method
from core.models.tuning.search import ALPHA_OVER_RANK, RATE, Search
from core.resources import preflight

Value = float | int | str
Params = Mapping[str, Value]
"""Values of settings by their names in the search space."""

ALL = "all"
"""Selects every setting of the search spaces."""
MAX_RATE = 10.0
"""Highest learning rate that ``TrainSpec`` permits."""
DIGITS = 3
"""Significant digits of a sampled value, so that the setting can be typed."""


@dataclass(frozen=True)
class Setting:
    """A setting that is tuned, with the values that are tried.

    Attributes:
        name: Its name in the search space: a field of ``RunSpec`` or ``alpha_over_rank``.
        default: The default value, which the first trial has.
        low: Lowest value of a range.
        high: Highest value of a range.
        log: Whether the range is sampled on a logarithmic scale.
        choices: The values, if it is not a range; they include the default.
        source: Where the values come from.
    """

    name: str
    default: Value
    low: float
    high: float
    log: bool
    choices: tuple[Value, ...]
    source: str

    @property
    def values(self) -> str:
        """The values as text: ``2, 4, 8`` or ``0.0002 to 0.04, log scale``."""
        if self.choices:
            return ", ".join(map(str, self.choices))
        return f"{self.low:.3g} to {self.high:.3g}{', log scale' if self.log else ''}"


def method_spec(base: RunSpec, method: str) -> RunSpec:
    """The run that has the default settings of a method.

    Raises:
        ConfigurationError: There is no such method.
    """
    return sweep.grid(base, [method])[0]


def space_of(
    base: RunSpec, method: str, names: Sequence[str] = (RATE,), given: Collection[str] = ()
) -> tuple[Setting, ...]:
    """The settings of a method that are tuned; values that do not fit the backbone are left out.

    Methods that are fitted in closed form have none, since the fit chooses its penalty on the
    validation split; they take part with one trial.

    Args:
        base: The run whose other settings are kept.
        method: Name of the method.
        names: Names of the settings to tune, or ``all``; others are left at their defaults.
        given: Dotted names of the settings that the user gave, which are not tuned.

    Raises:
        ConfigurationError: The method is unknown, has no free setting or does not fit the
            backbone, or a name is unknown.
        CoreError: The run cannot work for another reason.
    """
    entry, spec = tuning_method(method), method_spec(base, method)
    preflight.check(spec)
    check_names(names)
    if not entry.searches:
        return ()
    wanted = [name for name in entry.searches if name in names or ALL in names]
    free = [name for name in wanted if path_of(name) not in given]
    if not free:
        fixed = f"; {', '.join(wanted)} is given" if wanted else ""
        raise ConfigurationError(
            f"{entry.title} has no free setting to tune{fixed}.",
            f"Search one of {', '.join(entry.searches)}, and do not give its value.",
            field="adapter.method",
        )
    settings = [_setting(spec, name, entry.searches[name]) for name in free]
    settings = [setting for setting in settings if not setting.choices or len(setting.choices) > 1]
    if not settings:
        raise ConfigurationError(
            f"Only one value of {', '.join(free)} fits {entry.title} on {spec.model.backbone}.",
            f"Search another setting: {', '.join(entry.searches)}.",
            field="adapter.method",
        )
    return tuple(settings)


def check_names(names: Sequence[str]) -> None:
    """Refuse names that no search space has.

    Raises:
        ConfigurationError: A name is unknown.
    """
    known = dict.fromkeys(
        [ALL, *(name for method in TUNING_METHODS.values() for name in method.searches)]
    )
    for name in names:
        if name not in known:
            raise unknown_name("setting to search", name, known)


def path_of(name: str) -> str:
    """Dotted name of the ``RunSpec`` field that a setting of a search space changes."""
    if name == ALPHA_OVER_RANK:
        return "adapter.alpha"
    return f"{'train' if name in TrainSpec.model_fields else 'adapter'}.{name}"


def defaults(space: Sequence[Setting]) -> dict[str, Value]:
    """The default value of each setting, by name."""
    return {setting.name: setting.default for setting in space}


def combinations(space: Sequence[Setting]) -> list[dict[str, Value]] | None:
    """All combinations of values if they are finite, that of the defaults first; otherwise None."""
    if not all(setting.choices for setting in space):
        return None
    names = [setting.name for setting in space]
    values = [
        (setting.default, *(value for value in setting.choices if value != setting.default))
        for setting in space
    ]
    return [dict(zip(names, combination, strict=True)) for combination in product(*values)]


def apply(spec: RunSpec, space: Sequence[Setting], params: Params) -> RunSpec:
    """The run of a trial.

    A setting at its default value stays open, so that the run is that of an untuned comparison.
    Without a value of alpha / rank, alpha changes with the rank as in a sweep.

    Args:
        spec: The default settings of the method.
        space: The search space.
        params: Values by name.
    """
    changed = {
        setting.name: _rounded(params[setting.name])
        for setting in space
        if params[setting.name] != setting.default
    }
    rank = int(changed.get("rank", spec.adapter.rank))
    if "rank" in changed:
        spec = sweep.grid(spec, ranks=[rank])[0]
    quotient = changed.pop(ALPHA_OVER_RANK, None)
    if quotient is not None:
        changed["alpha"] = float(quotient) * rank
    values: dict[str, Any] = {path_of(name): value for name, value in changed.items()}
    if "epochs" in changed:
        values["train.epochs"] = int(changed["epochs"])
    return sweep.with_changes(spec, values)


def written(params: Params) -> str:
    """Values as text: ``lr 0.00412, rank 8``; ``defaults`` without a value."""
    parts = []
    for name, value in params.items():
        shown = f"{_rounded(value):g}" if isinstance(value, float) else str(value)
        parts.append(f"{name.replace('_', ' ')} {shown}")
    return ", ".join(parts) or "defaults"


def _setting(spec: RunSpec, name: str, search: Search) -> Setting:
    default = default_value(spec, name)
    if not search.choices:
        factor = float(default) if search.relative else 1.0
        low, high = search.low * factor, search.high * factor
        high = min(high, MAX_RATE) if name == RATE else high
        low, high = min(low, float(default)), max(high, float(default))
        return Setting(name, default, low, high, search.log, (), search.source)
    choices = search.choices
    if search.relative:
        choices = tuple(round(float(default) * float(factor)) for factor in choices)
    ordered = sorted({*choices, default}, key=lambda value: (isinstance(value, str), value))
    fitting = tuple(value for value in ordered if value == default or _fits(spec, name, value))
    return Setting(name, default, 0.0, 0.0, False, fitting, search.source)


def default_value(spec: RunSpec, name: str) -> Any:
    """Default value of a setting of the search space in a run."""
    resolved = spec.resolved()
    if name == ALPHA_OVER_RANK:
        return resolved.adapter.alpha / resolved.adapter.rank
    section, _, field = path_of(name).partition(".")
    return getattr(getattr(resolved, section), field)


def _fits(spec: RunSpec, name: str, value: Value) -> bool:
    path = path_of(name)
    if not path.startswith("adapter.") or name == ALPHA_OVER_RANK:
        return True
    changed = sweep.with_changes(spec, {path: value})
    card, findings = backbone_card(spec.model.backbone), open_cached(spec.data).findings
    try:
        count_parameters(card, changed.adapter, len(findings), spec.model.input_size)
    except CoreError:
        return False
    return True


def _rounded(value: Value) -> Any:
    if not isinstance(value, float) or value == 0 or not math.isfinite(value):
        return value
    return float(f"{value:.{DIGITS}g}")
