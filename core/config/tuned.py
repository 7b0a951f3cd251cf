"""Tuned defaults: settings that ``tune`` chose for a backbone, a data set and a label fraction.

``RunSpec.resolved`` does not use them: a stored run may leave settings open, and must mean the same
after another tuning. They are filled in where a user describes a new run, and stored with it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from core.config.data import DataSpec
from core.config.run import RunSpec
from core.errors import ConfigurationError

FILE = Path(__file__).resolve().parent.parent.parent / "assets" / "tuned" / "defaults.json"
"""Tuned defaults that are shipped; there are none if the file is missing."""

SAME = (
    "model.backbone", "model.pretrained", "model.input_size", "adapter.method",
    "data.label_fraction", "train.batch_size", "train.optimizer",
)  # fmt: skip
"""Settings in which a run must equal the tuned one; also the data set, and what was chosen."""

OPEN = ("train.lr", "train.weight_decay", "train.layer_decay", "adapter.rate_ratio",
        "adapter.orthogonality", "adapter.frequencies", "adapter.prompts",
        "adapter.last_blocks")  # fmt: skip
"""Settings that a run may leave open, so that a tuned value can be filled in."""

RATE = "train.lr"


@dataclass(frozen=True)
class TunedDefault:
    """Settings that were chosen for one method on one data set.

    Attributes:
        same: Values of ``SAME``, and of the method's rank, alpha and targets.
        data: The whole data set, without the place of its files.
        settings: The chosen values by dotted name.
        evidence: Runs, seeds, number of trials and scores.
    """

    same: dict[str, Any]
    data: dict[str, Any]
    settings: dict[str, Any]
    evidence: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Equal for defaults of the same method, backbone, data set and label fraction."""
        return json.dumps([{name: self.same[name] for name in SAME}, self.data], sort_keys=True)

    def matches(self, spec: RunSpec) -> bool:
        """Whether it was tuned for this run, whatever the run's own open settings are."""
        drawn = spec.data.split_file is None and not spec.data.shuffle_labels
        return (
            drawn
            and spec.model.weights is None
            and source_of(spec.data) == self.data
            and all(value_of(spec, path) == value for path, value in self.same.items())
        )


def source_of(data: DataSpec) -> dict[str, Any]:
    """The whole data set as JSON, without the place of its files unless the place names it."""
    source = data.source().model_dump(mode="json")
    dropped = {"subset_seed", "skip_bad", "label_fraction"}
    if data.name != "folder":
        dropped.add("root")
    return {name: value for name, value in source.items() if name not in dropped}


def value_of(spec: RunSpec, path: str) -> Any:
    """Value of a setting by its dotted name."""
    section, _, name = path.partition(".")
    return getattr(getattr(spec, section), name)


def read(file: Path = FILE) -> tuple[TunedDefault, ...]:
    """Read tuned defaults; none if the file does not exist.

    Raises:
        ConfigurationError: The file is damaged.
    """
    try:
        changed = file.stat().st_mtime_ns
    except OSError:
        return ()
    return _read(file, changed)


@lru_cache(maxsize=8)
def _read(file: Path, changed: int) -> tuple[TunedDefault, ...]:
    try:
        return tuple(TunedDefault(**entry) for entry in json.loads(file.read_text())["defaults"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigurationError(
            f"The tuned defaults {file} cannot be read ({error}).",
            "Write them again with python -m core tune --write FILE.",
        ) from error


def find(spec: RunSpec, known: Iterable[TunedDefault] | None = None) -> TunedDefault | None:
    """The tuned default that applies to a run; None if there is none.

    Args:
        spec: The run.
        known: Where to search; by default the shipped ones.
    """
    listed = read(FILE) if known is None else known
    return next((each for each in listed if each.matches(spec)), None)


def with_tuned_defaults(spec: RunSpec, known: Iterable[TunedDefault] | None = None) -> RunSpec:
    """The run with tuned values where it leaves settings open; values that were given are kept.

    Args:
        spec: The run.
        known: Where to search; by default the shipped ones.
    """
    default = find(spec, known)
    changes: dict[str, dict[str, Any]] = {}
    for path, value in (default.settings if default else {}).items():
        section, _, name = path.partition(".")
        if path in OPEN and value_of(spec, path) is None:
            changes.setdefault(section, {})[name] = value
    sections = {
        section: getattr(spec, section).model_copy(update=values)
        for section, values in changes.items()
    }
    return spec.model_copy(update=sections)


def tuned_for(spec: RunSpec, known: Iterable[TunedDefault] | None = None) -> bool:
    """Whether the learning rate of a run was tuned for its data set, label fraction and backbone.

    Args:
        spec: The run.
        known: Tuned defaults; by default the shipped ones. Those of a workspace's own tunings are
            listed by ``core.experiments.tune.defaults.tuned_here``.
    """
    default = find(spec, known)
    rate = (default.settings if default else {}).get(RATE)
    return rate is not None and abs(spec.resolved().train.lr / rate - 1) < 1e-6
