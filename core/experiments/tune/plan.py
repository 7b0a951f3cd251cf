"""Plan of a tuning: methods, search, budget and seeds; checked before anything runs."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from core.config.run import RunSpec
from core.errors import ConfigurationError
from core.experiments.tune.space import Setting, check_names, space_of
from core.models.tuning.search import RATE

TRIALS = 8
"""Trials of each method, if neither a number nor a time is given."""
FINAL_SEEDS = 5
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
        raise ConfigurationError("No method is given.", "Give --methods lora,full.")
    if "train.seed" in plan.given:
        raise ConfigurationError(
            "A tuning has several seeds, but one seed is given.", "Give --seeds instead of --seed."
        )
    if plan.trials is None and plan.budget is None:
        raise ConfigurationError("The tuning has no budget.", "Give --trials 8 or --budget 30m.")
    if plan.trials is not None and plan.trials < 1:
        raise ConfigurationError(
            f"A method cannot be tuned with {plan.trials} trials.",
            "Give --trials 1 or more; the first trial has the default settings.",
        )
    if plan.budget is not None and not plan.budget > 0:
        raise ConfigurationError(
            "A method cannot be tuned in no time.", "Give a budget such as --budget 30m."
        )
    if not plan.seeds or not plan.final_seeds:
        raise ConfigurationError(
            f"There are no {'final' if plan.seeds else 'tuning'} seeds.",
            "Give --seeds 0 and --final-seeds 5.",
        )
    shared = sorted(set(plan.seeds) & set(plan.final_seeds))
    if shared:
        raise ConfigurationError(
            f"Seeds are used for tuning and for the final runs: {', '.join(map(str, shared))}.",
            "Give --final-seeds other seeds: the final runs must not be those of the choice.",
        )
    return {method: space_of(plan.base, method, plan.search, plan.given) for method in plan.methods}


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
        raise ConfigurationError(f"“{text}” is not a duration.", "Write --budget 90s, 20m or 2h.")
    return float(match[1]) * UNITS[match[2]]
