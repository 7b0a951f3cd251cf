"""Plan of a tuning: methods, search, budget and seeds; checked before anything runs."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from core.config.number_lists import numbers
from core.config.run import RunSpec
from core.errors import ConfigurationError
from core.experiments import sweep
from core.experiments.tune.space import Setting, check_names, method_spec, space_of
from core.models.tuning.registry import TUNING_METHODS
from core.models.tuning.search import RATE
from core.runs.store import Store

TRIALS = 8
"""Trials of each method, if neither a number nor a time is given."""
FINAL_SEEDS = 5
MOST_TRIALS, MOST_SEEDS = 1000, 100
HIGHEST_SEED = 2**31 - 1
UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Plan:
    """What is tuned, with which budget.

    Attributes:
        base: The run whose settings are kept, apart from method, seed and tuned settings.
        methods: Names of the methods.
        search: Names of the settings to tune, or ``all``.
        given: Dotted names of the settings that the user gave, which are not tuned.
        trials: Trials of each method; None if ``budget`` is the limit.
        budget: Seconds of training of each method; no trial starts after them.
        seeds: Tuning seeds; each trial is run with all of them.
        final_seeds: Fresh seeds, with which the chosen settings are trained.
        prune: Whether trials are stopped whose epochs score below the median of earlier ones.
    """

    base: RunSpec
    methods: tuple[str, ...]
    search: tuple[str, ...] = (RATE,)
    given: tuple[str, ...] = ()
    trials: int | None = TRIALS
    budget: float | None = None
    seeds: tuple[int, ...] = (0,)
    final_seeds: tuple[int, ...] = tuple(range(1, 1 + FINAL_SEEDS))
    prune: bool = True

    @cached_property
    def name(self) -> str:
        """Name of the plan, the same for equal plans: ``tune-1a2b3c4d``."""
        text = json.dumps(self.as_json() | {"base": self.base.fingerprint()}, sort_keys=True)
        return f"tune-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    @property
    def limit(self) -> str:
        """The budget as text: ``8 trials``."""
        if self.budget is not None:
            return f"{self.budget:g} s"
        return f"{self.trials} trial{'s' * (self.trials != 1)}"

    def as_json(self) -> dict[str, Any]:
        """The plan as a JSON value, which ``from_json`` reads."""
        return asdict(self) | {"base": json.loads(self.base.to_json())}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Plan:
        """Read what ``as_json`` wrote."""
        lists = {name: tuple(item) for name, item in value.items() if isinstance(item, list)}
        return cls(**value | lists | {"base": RunSpec.from_json(json.dumps(value["base"]))})


def check(plan: Plan) -> dict[str, tuple[Setting, ...]]:
    """Refuse a plan that cannot work, before any run is queued.

    Returns:
        The search space of each method.

    Raises:
        CoreError: A method is unknown, has no free setting or does not fit the backbone, the budget
            is empty, or tuning and final seeds overlap.
    """
    check_names(plan.search)
    if not plan.methods:
        raise ConfigurationError(
            "No method is given.", "Give --methods lora,full.", field="tune.methods"
        )
    if "train.seed" in plan.given:
        raise ConfigurationError(
            "A tuning has several seeds, but one seed is given.",
            "Give --seeds instead of --seed.",
            field="train.seed",
        )
    if plan.trials is None and plan.budget is None:
        raise ConfigurationError(
            "The tuning has no budget.", "Give --trials 8 or --budget 30m.", field="tune.trials"
        )
    if plan.trials is not None and not 1 <= plan.trials <= MOST_TRIALS:
        raise ConfigurationError(
            f"A method cannot be tuned with {plan.trials} trials.",
            f"Give --trials 1 to {MOST_TRIALS:,}; the first trial has the default settings.",
            field="tune.trials",
        )
    if plan.budget is not None and not plan.budget > 0:
        raise ConfigurationError(
            "A method cannot be tuned in no time.",
            "Give a budget such as --budget 30m.",
            field="tune.budget",
        )
    _check_seeds("tuning", plan.seeds, "--seeds 0", "tune.seeds")
    _check_seeds("final", plan.final_seeds, "--final-seeds 5", "tune.final-seeds")
    shared = sorted(set(plan.seeds) & set(plan.final_seeds))
    if shared:
        raise ConfigurationError(
            f"Seeds are used for tuning and for the final runs: {', '.join(map(str, shared))}.",
            "Give --final-seeds other seeds: the final runs must not be those of the choice.",
            field="tune.final-seeds",
        )
    return {method: space_of(plan.base, method, plan.search, plan.given) for method in plan.methods}


def plan_of(
    spec: RunSpec,
    given: Collection[str],
    methods: Iterable[str],
    trials: int | None,
    budget: str | None,
    search: Iterable[str],
    seeds: str,
    final_seeds: str,
    prune: bool = True,
) -> Plan:
    """The plan that a person describes on the command line or in the launch form.

    Args:
        spec: The run whose settings are kept.
        given: Dotted names of the settings that the user gave.
        methods: Names of the methods.
        trials: Trials of each method.
        budget: Training time of each method instead, as ``seconds_of`` reads it.
        search: Names of the settings to tune, or ``all``.
        seeds: Tuning seeds, such as ``0,1``.
        final_seeds: Number of fresh seeds, such as ``5``, or the seeds, such as ``10-14``.
        prune: Whether trials are stopped early.

    Raises:
        ConfigurationError: A text cannot be read, or there are two limits; see also ``check``.
    """
    if trials is not None and budget is not None:
        raise ConfigurationError(
            "Both a number of trials and a training time are given.",
            "Give one of them.",
            field="tune.budget",
        )
    tuning = tuple(dict.fromkeys(numbers(seeds, int, "--seeds", field="tune.seeds")))
    listed = numbers(final_seeds, int, "--final-seeds", field="tune.final-seeds")
    single = len(listed) == 1 and final_seeds.strip().isdigit()
    final = tuple(dict.fromkeys(listed))
    if single:
        final = fresh_seeds(min(listed[0], MOST_SEEDS + 1), tuning)
    seconds = None if budget is None else seconds_of(budget)
    fixed = sorted(path for path in given if path.startswith(("adapter.", "train.")))
    return Plan(
        spec,
        tuple(dict.fromkeys(methods)),
        tuple(dict.fromkeys(name.replace("-", "_") for name in search)),
        tuple(path for path in fixed if path != "adapter.method"),
        None if seconds is not None else TRIALS if trials is None else trials,
        seconds,
        tuning,
        final,
        prune,
    )


def expected_seconds(plan: Plan, store: Store) -> float:
    """Expected training time of all trials and final runs, one after the other.

    Args:
        plan: The plan.
        store: Its completed runs make the estimate more accurate.
    """
    total = 0.0
    for method in plan.methods:
        spec = method_spec(plan.base, method)
        cost = sweep.plan([spec], store, store.workspace.cache, again=True, check=False)
        count = plan.trials or 0 if TUNING_METHODS[method].searches else 1
        trials = count * len(plan.seeds) * cost.seconds
        total += (plan.budget or trials) + len(plan.final_seeds) * cost.seconds
    return total


def fresh_seeds(count: int, seeds: tuple[int, ...]) -> tuple[int, ...]:
    """The first seeds that are not tuning seeds.

    Args:
        count: How many.
        seeds: The tuning seeds.
    """
    free = (seed for seed in range(count + len(seeds)) if seed not in seeds)
    return tuple(seed for seed, _ in zip(free, range(count), strict=False))


def seconds_of(text: str) -> float:
    """Parse a duration: ``90s``, ``20m``, ``2h``, or a number of seconds.

    Raises:
        ConfigurationError: It is not a duration.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", text)
    if match is None or match[2] not in UNITS:
        raise ConfigurationError(
            f"“{text}” is not a duration.", "Write --budget 90s, 20m or 2h.", field="tune.budget"
        )
    return float(match[1]) * UNITS[match[2]]


def _check_seeds(kind: str, seeds: Sequence[int], remedy: str, field: str) -> None:
    if not 1 <= len(seeds) <= MOST_SEEDS:
        count = "no" if not seeds else f"more than {MOST_SEEDS}"
        raise ConfigurationError(f"There are {count} {kind} seeds.", f"Give {remedy}.", field=field)
    if not 0 <= min(seeds) <= max(seeds) <= HIGHEST_SEED:
        raise ConfigurationError(
            f"A {kind} seed is not between 0 and {HIGHEST_SEED}.", f"Give {remedy}.", field=field
        )
