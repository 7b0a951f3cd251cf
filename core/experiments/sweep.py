"""Many runs at once: methods × ranks × label fractions × seeds, or a list, and what they cost."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.config.run import RunSpec
from core.errors import ConfigurationError
from core.models.tuning.registry import tuning_method
from core.resources import estimate, preflight
from core.runs import queue
from core.runs.store import Run, RunState, Store

MOST_RUNS = 10_000


@dataclass(frozen=True)
class Plan:
    """What a sweep would queue.

    Attributes:
        new: The runs, in the order in which they are queued.
        known: Runs that are left out, since equal ones have been completed or are waiting.
        seconds: Expected wall time of the new ones, one after the other.
        basis: What the time was derived from.
    """

    new: tuple[RunSpec, ...]
    known: tuple[RunSpec, ...]
    seconds: float
    basis: str

    @property
    def hours(self) -> float:
        """Expected wall time, in hours."""
        return self.seconds / 3600

    def as_json(self) -> dict[str, Any]:
        """The plan as one JSON value."""
        return {
            "runs": len(self.new),
            "hours": round(self.hours, 4),
            "basis": self.basis,
            "known": len(self.known),
            "new": [{"name": s.title(), "fingerprint": s.fingerprint()} for s in self.new],
        }


def grid(
    base: RunSpec,
    methods: Sequence[str] = (),
    ranks: Sequence[int] = (),
    fractions: Sequence[float] = (),
    seeds: Sequence[int] = (),
) -> list[RunSpec]:
    """All combinations, each once; a method without a rank is not repeated for each.

    Args:
        base: Everything else, and what stands where a list is empty.
        methods: Names of methods.
        ranks: Ranks of low-rank updates.
        fractions: Label fractions in (0, 1].
        seeds: Seeds; each draws its own labelled subset unless ``base`` names one.

    Returns:
        The runs, the seeds of one setting beside each other.

    Raises:
        ConfigurationError: A value is unknown or out of range, or there are too many runs.
    """
    found: dict[str, RunSpec] = {}
    for method, fraction in itertools.product(
        methods or [base.adapter.method], fractions or [base.data.label_fraction]
    ):
        heeded = tuning_method(method).options
        strange = {f"adapter.{name}": None for name in base.adapter.own() if name not in heeded}
        for rank, seed in itertools.product(
            ranks if ranks and "rank" in heeded else [base.adapter.rank], seeds or [base.train.seed]
        ):
            spec = _changed(
                base,
                {
                    **strange,
                    "adapter.method": method,
                    "adapter.rank": rank,
                    "data.label_fraction": fraction,
                    "train.seed": seed,
                },
            )
            found[spec.fingerprint()] = spec
            _check_many(len(found))
    return list(found.values())


def listed(base: RunSpec, file: Path) -> list[RunSpec]:
    """The runs of a JSON file: a list of objects of what differs from ``base``.

    Args:
        base: Everything else.
        file: Such as ``[{"adapter.method": "full", "train.lr": 0.001}, {"adapter.rank": 8}]``.

    Raises:
        ConfigurationError: The file cannot be read, or an entry is not valid; it is named.
    """
    try:
        entries = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"The list of runs {file} cannot be read ({error}).",
            'Give a JSON list: [{"adapter.rank": 8}, {"adapter.method": "full"}].',
        ) from error
    if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
        raise ConfigurationError(
            f"The list of runs {file} is no list of objects.",
            'Write it so: [{"adapter.rank": 8}, {"adapter.method": "full"}].',
        )
    _check_many(len(entries))
    found: dict[str, RunSpec] = {}
    for number, entry in enumerate(entries, 1):
        try:
            spec = _changed(base, entry)
        except ConfigurationError as error:
            raise ConfigurationError(
                f"Entry {number} of {file.name}: {error.cause}", error.remedy, field=error.field
            ) from error
        found[spec.fingerprint()] = spec
    return list(found.values())


def plan(
    specs: Iterable[RunSpec], store: Store, cache: Path, *, again: bool = False, check: bool = True
) -> Plan:
    """Say what would be queued and how long it would take.

    Args:
        specs: The runs of the sweep.
        store: Where equal runs are looked for.
        cache: The workspace's cache.
        again: Queue runs too that have been completed or are waiting.
        check: Refuse what cannot work; once for runs that differ in nothing but the seed.

    Raises:
        CoreError: Whatever would stop one of the runs.
    """
    found = list(specs)
    taken = set() if again else store.fingerprints([RunState.COMPLETED, *queue.PENDING])
    new = [spec for spec in found if spec.fingerprint() not in taken]
    done = store.list(states=[RunState.COMPLETED], limit=200)
    earlier = [(run.spec, run.seconds_alone) for run in done if run.seconds_alone]
    costs: dict[str, estimate.Cost] = {}
    seconds = 0.0
    for spec in new:
        alike = _with_seed(spec, 0).fingerprint()
        if alike not in costs:
            if check:
                preflight.check(spec)
            costs[alike] = estimate.estimate(spec, cache, earlier)
        seconds += costs[alike].seconds
    bases = sorted({one.basis.split(", ")[0] for one in costs.values()})
    known = [spec for spec in found if spec.fingerprint() in taken]
    return Plan(tuple(new), tuple(known), seconds, " or ".join(bases))


def submit(store: Store, planned: Plan, *, priority: int = 0, together: bool = False) -> list[Run]:
    """Queue what was planned, in its order.

    Args:
        store: Where it is queued.
        planned: The runs.
        priority: Runs of a higher one start first.
        together: Let them start at once, in one process; see ``core.training.joint.compatibility``.
    """
    if together:
        return list(store.create_group(planned.new, priority=priority))
    return [queue.submit(store, spec, priority=priority) for spec in planned.new]


def _changed(base: RunSpec, changes: dict[str, Any]) -> RunSpec:
    fields: dict[str, Any] = {}
    for section in RunSpec.model_fields:
        inner = getattr(base, section)
        fields |= {f"{section}.{name}": getattr(inner, name) for name in type(inner).model_fields}
    return RunSpec.of(**(fields | changes))


def _with_seed(spec: RunSpec, seed: int) -> RunSpec:
    data = spec.data
    if data.subset_seed == spec.train.seed:
        data = data.model_copy(update={"subset_seed": None})
    train = spec.train.model_copy(update={"seed": seed})
    return spec.model_copy(update={"train": train, "data": data})


def _check_many(count: int) -> None:
    if count > MOST_RUNS:
        raise ConfigurationError(
            f"The sweep has more than {MOST_RUNS:,} runs.", "Leave out methods, ranks or seeds."
        )
