"""Sweep: many runs queued at once, as combinations of settings or as a list."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.config.data import MAX_FOLDS, MIN_FOLDS
from core.config.run import RunSpec
from core.errors import ConfigurationError
from core.models.tuning.registry import tuning_method
from core.resources import estimate, preflight
from core.runs import queue
from core.runs.run import Run, RunState
from core.runs.store import Store

MAX_RUNS = 10_000
ALPHA_KEPT = "rslora"
"""The method whose alpha does not change with the rank."""


@dataclass(frozen=True)
class Plan:
    """Runs of a sweep that would be queued, with their expected time.

    Attributes:
        new: The runs, in the order in which they are queued.
        known: Runs that are left out, because equal ones are completed, active or queued.
        seconds: Expected wall time of the new runs, one after the other.
        basis: What the expected time is derived from.
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
    folds: int | None = None,
    *,
    lrs: Sequence[float] = (),
    alphas: Sequence[float] = (),
    alphas_over_rank: Sequence[float] = (),
) -> list[RunSpec]:
    """All combinations, each once; a method without a setting is not repeated for its values.

    If there are ranks but no alphas, alpha changes with the rank, so that alpha / rank is that of
    ``base``. rsLoRA keeps alpha: its scale, alpha / √rank, does not shrink with the rank as much.

    Args:
        base: All other settings, and the value used where a list is empty.
        methods: Names of methods.
        ranks: Ranks of low-rank updates.
        fractions: Label fractions in (0, 1].
        seeds: Seeds; each draws its own labelled subset unless ``base`` names one.
        folds: Number of folds of a cross-validation, each of which is a run.
        lrs: Peak learning rates.
        alphas: Values of alpha, the same for each rank.
        alphas_over_rank: Values of alpha / rank.

    Returns:
        The runs, with the seeds and folds of one setting next to each other.

    Raises:
        ConfigurationError: A value is unknown or out of range, there are too many runs, or both
            alphas and alphas over rank are given, or no method supports them.
    """
    methods = methods or [base.adapter.method]
    _check_alphas(methods, alphas, alphas_over_rank)
    specs: dict[str, RunSpec] = {}
    for method, fraction in itertools.product(methods, fractions or [base.data.label_fraction]):
        options = tuning_method(method).options
        unsupported = {f"adapter.{n}": None for n in base.adapter.own() if n not in options}
        rates: Sequence[float | None] = lrs or [base.train.lr]
        low_rank = _ranks_and_alphas(base, method, ranks, alphas, alphas_over_rank)
        for (rank, alpha), lr, seed, fold in itertools.product(
            low_rank, rates, seeds or [base.train.seed], fold_names(base, folds)
        ):
            spec = with_changes(
                base,
                {
                    **unsupported,
                    "adapter.method": method,
                    "adapter.rank": rank,
                    "adapter.alpha": alpha,
                    "data.label_fraction": fraction,
                    "train.lr": lr,
                    "train.seed": seed,
                    "data.fold": fold,
                },
            )
            specs[spec.fingerprint()] = spec
            _check_count(len(specs))
    return list(specs.values())


def fold_names(base: RunSpec, folds: int | None) -> list[str | None]:
    """The folds of a cross-validation, ``1/5`` to ``5/5``; that of ``base`` without a number."""
    if folds is None:
        return [base.data.fold]
    if not MIN_FOLDS <= folds <= MAX_FOLDS:
        raise ConfigurationError(
            f"{folds} folds are not possible: one is scored, another selects the epoch, and the "
            "others are trained on.",
            f"Give {MIN_FOLDS} to {MAX_FOLDS} folds.",
            field="folds",
        )
    if base.data.fold is not None:
        raise ConfigurationError(
            "Both --fold and --folds are given.", "Give one of them.", field="data.fold"
        )
    return [f"{k}/{folds}" for k in range(1, folds + 1)]


def read_list(base: RunSpec, file: Path) -> list[RunSpec]:
    """Read runs from a JSON file: a list of objects with the settings that differ from ``base``.

    Args:
        base: All other settings.
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
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ConfigurationError(
            f"The list of runs {file} is not a list of objects.",
            'Write it as [{"adapter.rank": 8}, {"adapter.method": "full"}].',
        )
    _check_count(len(entries))
    specs: dict[str, RunSpec] = {}
    for number, entry in enumerate(entries, 1):
        try:
            spec = with_changes(base, entry)
        except ConfigurationError as error:
            raise ConfigurationError(
                f"Entry {number} of {file.name}: {error.cause}", error.remedy, field=error.field
            ) from error
        specs[spec.fingerprint()] = spec
    return list(specs.values())


def plan(
    specs: Iterable[RunSpec], store: Store, cache: Path, *, again: bool = False, check: bool = True
) -> Plan:
    """Determine which runs would be queued and how long they would take.

    Args:
        specs: The runs of the sweep.
        store: The store in which equal runs are searched.
        cache: The cache of the workspace.
        again: Include runs that are completed, active or queued.
        check: Check that each run can work; once for runs that differ only in their seed.

    Raises:
        CoreError: One of the runs cannot work.
    """
    specs = list(specs)
    taken = set() if again else store.fingerprints([RunState.COMPLETED, *queue.PENDING])
    new = [spec for spec in specs if spec.fingerprint() not in taken]
    done = store.list(states=[RunState.COMPLETED], limit=200)
    earlier = [(run.spec, run.seconds_alone) for run in done if run.seconds_alone]
    costs: dict[str, estimate.Cost] = {}
    seconds = 0.0
    for spec in new:
        same = _first_fold(spec).fingerprint()
        if same not in costs:
            if check:
                preflight.check(spec)
            costs[same] = estimate.estimate(spec, cache, earlier)
        seconds += costs[same].seconds
    bases = sorted({cost.basis.split(", ")[0] for cost in costs.values()})
    known = [spec for spec in specs if spec.fingerprint() in taken]
    return Plan(tuple(new), tuple(known), seconds, " or ".join(bases))


def submit(store: Store, planned: Plan, *, priority: int = 0, together: bool = False) -> list[Run]:
    """Queue the new runs of a plan, in their order.

    Args:
        store: The store.
        planned: The plan.
        priority: Runs with a higher priority start first.
        together: Start them together in one process; see ``core.training.joint.compatibility``.
    """
    if together:
        return list(store.create_group(planned.new, priority=priority))
    return [queue.submit(store, spec, priority=priority) for spec in planned.new]


def _check_alphas(
    methods: Sequence[str], alphas: Sequence[float], alphas_over_rank: Sequence[float]
) -> None:
    if alphas and alphas_over_rank:
        raise ConfigurationError(
            "Both alphas and alphas over rank are given.", "Give one of them.", field="sweep"
        )
    if (alphas or alphas_over_rank) and not any(
        "alpha" in tuning_method(method).options for method in methods
    ):
        raise ConfigurationError(
            f"None of the methods of this sweep has an alpha ({', '.join(methods)}).",
            "Add a method such as lora, or leave out the alphas.",
            field="sweep",
        )


def _ranks_and_alphas(
    base: RunSpec,
    method: str,
    ranks: Sequence[int],
    alphas: Sequence[float],
    alphas_over_rank: Sequence[float],
) -> list[tuple[int, float]]:
    """The combinations of rank and alpha of one method."""
    options, adapter = tuning_method(method).options, base.adapter
    chosen = ranks if ranks and "rank" in options else [adapter.rank]
    if "alpha" not in options:
        return [(rank, adapter.alpha) for rank in chosen]
    if alphas:
        return list(itertools.product(chosen, alphas))
    if not alphas_over_rank and method == ALPHA_KEPT:
        return [(rank, adapter.alpha) for rank in chosen]
    quotients = alphas_over_rank or [adapter.alpha / adapter.rank]
    return [(rank, quotient * rank) for rank, quotient in itertools.product(chosen, quotients)]


def with_changes(base: RunSpec, changes: dict[str, Any]) -> RunSpec:
    """The specification with other values of some settings, by dotted name.

    Raises:
        ConfigurationError: A value is not valid.
    """
    fields: dict[str, Any] = {}
    for section in RunSpec.model_fields:
        inner = getattr(base, section)
        fields |= {f"{section}.{name}": getattr(inner, name) for name in type(inner).model_fields}
    return RunSpec.of(**(fields | changes))


def with_seed(spec: RunSpec, seed: int) -> RunSpec:
    """The same run with another seed, which also draws the labelled subset unless one is given."""
    data = spec.data
    if data.subset_seed == spec.train.seed:
        data = data.model_copy(update={"subset_seed": None})
    train = spec.train.model_copy(update={"seed": seed})
    return spec.model_copy(update={"train": train, "data": data})


def _first_fold(spec: RunSpec) -> RunSpec:
    """The same run with seed 0 and the first fold of its cross-validation."""
    spec = with_seed(spec, 0)
    if spec.data.fold is None:
        return spec
    fold = f"1/{spec.data.fold.partition('/')[2]}"
    return spec.model_copy(update={"data": spec.data.model_copy(update={"fold": fold})})


def _check_count(count: int) -> None:
    if count > MAX_RUNS:
        raise ConfigurationError(
            f"The sweep has more than {MAX_RUNS:,} runs.", "Remove methods, ranks or seeds."
        )
