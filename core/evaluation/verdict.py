"""Which of two ways is better, in words that claim no more than the runs can carry.

Two kinds of chance stand between a difference and a claim: the seed (labelled subset, head, order)
and the patients of the test split. A way is called better only where both intervals exclude zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from core.config.fields import fields
from core.config.run import RunSpec
from core.evaluation import evaluate
from core.metrics.auroc import macro, per_finding
from core.metrics.bootstrap import DRAWS, group_bootstrap
from core.metrics.intervals import Interval
from core.metrics.seed_tests import SeedsTest, seeds_paired, seeds_unpaired
from core.models.tuning.registry import TUNING_METHODS

Evidence = Literal["above", "below", "unclear", "undecided"]

FREE = ("train.seed", "train.device", "train.precision", "data.root")
"""Settings in which the runs of one group may differ: repetitions, and where things lie."""

FOLDER = "folder"
"""The data set that is whatever lies at its root."""

LABELS = {
    "data.name": "data set",
    "data.split": "split",
    "data.findings": "set of findings",
    "data.uncertainty": "uncertain labels",
    "data.patient": "pattern of the patient",
    "data.label_fraction": "label fraction",
    "data.subset_seed": "subset seed",
    "data.called": "name of the data set",
    "data.table": "table of labels",
    "data.columns": "columns of the table",
    "data.labels": "findings of the folder",
    "data.split_file": "list of training studies",
    "data.skip_bad": "bad pictures left out",
    "data.shuffle_labels": "shuffled labels",
    "model.pretrained": "pre-trained weights",
    "adapter.rate_ratio": "rate of B over A",
    "adapter.initial_rank": "rank at the start",
    "train.lr": "learning rate",
    "train.min_lr": "last learning rate",
    "train.warmup_epochs": "warm-up epochs",
    "train.layer_decay": "layer-wise decay",
}


@dataclass(frozen=True)
class Trial:
    """One completed run.

    Attributes:
        id: The run's id.
        spec: What it did.
        folder: Where its predictions are.
    """

    id: str
    spec: RunSpec
    folder: Path


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but the seed.

    Attributes:
        title: What tells the group from the others beside it: ``LoRA r 4``.
        spec: The specification of the first.
        trials: One for each seed, in the order of the seeds.
    """

    title: str
    spec: RunSpec
    trials: tuple[Trial, ...]


@dataclass(frozen=True)
class Differing:
    """A setting in which runs differ.

    Attributes:
        path: Its dotted name.
        label: Its name for people.
        values: One value a run, for people; a dash where the method does not heed it.
        given: Whether somebody chose it; False where it follows from method and optimizer.
    """

    path: str
    label: str
    values: tuple[str, ...]
    given: bool


@dataclass(frozen=True)
class Verdict:
    """Whether the first group is better than the second, and how sure that is.

    Attributes:
        sentence: The answer in words, with its interval and the number of seeds.
        evidence: ``above`` or ``below`` where both intervals exclude zero, ``unclear`` where one
            of them holds it, ``undecided`` with fewer than two seeds a side.
        difference: Mean AUROC of the first minus the second, 0 to 1; interval over seeds, or NaN.
        over_patients: The same difference with its interval over patients of the split.
        seeds: The test over seeds.
        notes: What the reader should know besides.
    """

    sentence: str
    evidence: Evidence
    difference: Interval
    over_patients: Interval
    seeds: SeedsTest
    notes: tuple[str, ...]


def same_but_seed(spec: RunSpec) -> str:
    """A key that is equal for runs that repeat each other with another seed."""
    plain = spec.resolved().model_dump(mode="json")
    if plain["data"]["subset_seed"] == plain["train"]["seed"]:
        plain["data"]["subset_seed"] = None
    for path in FREE:
        section, name = path.split(".")
        if path != "data.root" or spec.data.name != FOLDER:
            plain[section][name] = None
    method = TUNING_METHODS.get(spec.adapter.method)
    for name in list(plain["adapter"]):
        if method is not None and name not in ("method", *method.options):
            plain["adapter"][name] = None
    return repr(plain)


def grouped(trials: Iterable[Trial]) -> list[Group]:
    """Put runs that differ only in the seed together, in the order of their first members.

    Of two runs with one seed the later in ``trials`` counts.
    """
    found: dict[str, dict[int, Trial]] = {}
    for trial in trials:
        found.setdefault(same_but_seed(trial.spec), {})[trial.spec.train.seed] = trial
    members = [tuple(seeds[seed] for seed in sorted(seeds)) for seeds in found.values()]
    specs = [trials_of[0].spec for trials_of in members]
    return [
        Group(title, spec, own)
        for title, spec, own in zip(titles(specs), specs, members, strict=True)
    ]


def titles(specs: Sequence[RunSpec]) -> list[str]:
    """A short name for each of several specifications: the method, and what else differs."""
    seen = ("adapter.method", "adapter.rank", *FREE)
    apart = [
        one for one in differing(specs) if one.path not in seen and one.given
    ]  # fmt: skip
    return [
        " · ".join(
            word for word in (adapter(spec), *(_value_in_title(o, i) for o in apart)) if word
        )
        for i, spec in enumerate(specs)
    ]


def adapter(spec: RunSpec) -> str:
    """The method in a sentence: ``LoRA r 4``, ``full fine-tuning``."""
    method = TUNING_METHODS.get(spec.adapter.method)
    if method is None:
        return spec.adapter.method
    title = method.title
    title = title if title[1:] != title[1:].lower() else title[0].lower() + title[1:]
    return f"{title} r {spec.adapter.rank}" if "rank" in method.options else title


def differing(specs: Sequence[RunSpec]) -> list[Differing]:
    """The settings in which runs differ, those that somebody chose first.

    Args:
        specs: The runs' specifications, resolved or not.
    """
    full = [spec.resolved() for spec in specs]
    found = []
    for setting in fields():
        section, name = setting.path.split(".")
        values = [getattr(getattr(spec, section), name) for spec in full]
        if setting.path == "data.subset_seed" and values == [s.train.seed for s in full]:
            continue
        heeded = [_heeds(spec, setting.path) for spec in full]
        compared = [value for value, heed in zip(values, heeded, strict=True) if heed]
        if len(set(compared)) < 2:
            continue
        given = not all(_follows(spec, setting.path) for spec in full)
        words = tuple(
            _written(setting.path, value) if heed else "–"
            for value, heed in zip(values, heeded, strict=True)
        )
        label = LABELS.get(setting.path, name.replace("_", " "))
        found.append(Differing(setting.path, label, words, given))
    return sorted(found, key=lambda one: not one.given)


def counterpart(spec: RunSpec, method: str) -> RunSpec:
    """The same run by another method, which takes its own published values where they are free."""
    sections = {}
    for section in ("data", "train"):
        part = getattr(spec, section)
        names = type(part).model_fields
        free = {name: None for name in names if _follows(spec, f"{section}.{name}")}
        sections[section] = part.model_copy(update=free)
    heeded = TUNING_METHODS[method].options if method in TUNING_METHODS else {}
    strange = {name: None for name in spec.adapter.own() if name not in heeded}
    sections["adapter"] = spec.adapter.model_copy(update={"method": method, **strange})
    return spec.model_copy(update=sections)


def verdict(first: Group, second: Group, split: str = "test", *, draws: int = DRAWS) -> Verdict:
    """Say whether the first group is better than the second.

    Args:
        first: Runs of one way.
        second: Runs of the other, on the same studies.
        split: ``test`` or ``val``.
        draws: Resamples of the patients.

    Raises:
        DataError: A run has no predictions, or the runs were not scored on the same studies.
    """
    shared = sorted(_seeds(first) & _seeds(second))
    sides = [
        [trial for trial in group.trials if not shared or trial.spec.train.seed in shared]
        for group in (first, second)
    ]
    read = evaluate.aligned(
        [evaluate.read_predictions(trial.folder, split) for side in sides for trial in side]
    )
    each = [macro(per_finding(one.labels, one.scores)) for one in read]
    cut = len(sides[0])
    test = (seeds_paired if shared else seeds_unpaired)(each[:cut], each[cut:])
    patients = group_bootstrap(
        read[0].labels,
        [one.scores for one in read[:cut]],
        [one.scores for one in read[cut:]],
        read[0].patients,
        draws,
    ).difference
    evidence = _evidence(test, patients)
    sentence = _sentence(first.title, second.title, test, patients, evidence, split)
    notes = tuple(_notes(first, second, test, bool(shared), len(np.unique(read[0].patients))))
    return Verdict(sentence, evidence, test.difference, patients, test, notes)


def _evidence(test: SeedsTest, patients: Interval) -> Evidence:
    if math.isnan(test.p):
        return "undecided"
    bounds = (test.difference, patients)
    if all(interval.low > 0 for interval in bounds):
        return "above"
    if all(interval.high < 0 for interval in bounds):
        return "below"
    return "unclear"


def _sentence(
    first: str, second: str, test: SeedsTest, patients: Interval, evidence: Evidence, split: str
) -> str:
    gap = test.difference
    if math.isnan(gap.value):
        return f"No finding is defined on the {split} split, so that nothing can be compared."
    sign = -1 if gap.value < 0 else 1
    word = "below" if sign < 0 else "above"
    claim = f"{_capital(first)} is {_points(abs(gap.value))} points {word} {second}"
    if f"{abs(100 * gap.value):.1f}" == "0.0":
        claim = f"{_capital(first)} and {second} score alike"
    over_patients = _range(patients, sign)
    if evidence == "undecided":
        lead = claim[0].lower() + claim[1:] if claim.startswith(("Full", "Linear")) else claim
        fewest = "one seed" if test.count == 1 else "so few seeds"
        return (
            f"Not decidable with {fewest}: {lead} on these patients (95% interval over patients "
            f"{over_patients}), but the next seed may turn it."
        )
    seeds = f"{test.count} seeds"
    if evidence != "unclear":
        return f"{claim}, 95% interval {_range(gap, sign)}, {seeds}."
    if gap.low <= 0 <= gap.high:
        return (
            f"No clear difference: {claim[0].lower() + claim[1:] if first[0].islower() else claim},"
            f" 95% interval {_range(gap, sign)}, {seeds}."
        )
    return (
        f"{claim} over {seeds} (95% interval {_range(gap, sign)}), but not clearly so on other "
        f"patients ({over_patients})."
    )


def _notes(
    first: Group, second: Group, test: SeedsTest, paired: bool, patients: int
) -> Iterable[str]:
    chosen = [
        one
        for one in differing([first.spec, second.spec])
        if one.given and one.path not in FREE and one.path != "adapter.rank"
    ]
    if len(chosen) > 1:
        named = ", ".join(one.label for one in chosen)
        yield f"They differ in {named}: the difference cannot be put down to one of them."
    if paired and test.count > 1:
        decided = test.count - test.ties
        yield (
            f"{_capital(first.title)} won with {test.wins} of {decided} seeds"
            f" (share of wins 95% interval {100 * test.win_rate.low:.0f}% to "
            f"{100 * test.win_rate.high:.0f}%)."
            if decided
            else "All seeds scored alike."
        )
    if not paired:
        yield "The two have no seed in common; the seeds are compared as two groups."
    if test.count in (2, 3):
        yield "With so few seeds the interval is wide; five or more make it useful."
    if patients < 50:
        yield f"The split has {patients} patients only."


def _seeds(group: Group) -> set[int]:
    return {trial.spec.train.seed for trial in group.trials}


def _heeds(spec: RunSpec, path: str) -> bool:
    """Whether a setting has an effect in this run."""
    section, name = path.split(".")
    method = TUNING_METHODS.get(spec.adapter.method)
    if section == "adapter" and name != "method" and method is not None:
        return name in method.options
    return not (path == "train.momentum" and spec.train.optimizer == "adamw")


def _follows(spec: RunSpec, path: str) -> bool:
    """Whether a value is what the run would have taken by itself."""
    section, name = path.split(".")
    part = getattr(spec, section)
    if type(part).model_fields[name].default is not None:
        return False
    free = spec.model_copy(update={section: part.model_copy(update={name: None})})
    return bool(getattr(getattr(free.resolved(), section), name) == getattr(part, name))


def _written(path: str, value: Any) -> str:
    if path == "data.label_fraction":
        return f"{100 * value:g}%"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "default"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _value_in_title(one: Differing, i: int) -> str:
    value = one.values[i]
    if value == "–":
        return ""
    if one.path == "data.label_fraction":
        return f"{value} labels"
    if one.path == "model.pretrained":
        return "" if value == "yes" else "random weights"
    if one.path in ("model.backbone", "data.name", "data.split", "train.optimizer"):
        return value
    return f"{one.label} {value}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _points(value: float) -> str:
    text = f"{100 * value:.1f}"
    return "0.0" if text == "-0.0" else text.replace("-", "−")


def _range(interval: Interval, sign: int) -> str:
    """Bounds in points, seen from the side that is ahead."""
    if math.isnan(interval.low):
        return "not defined"
    low, high = sorted((sign * interval.low, sign * interval.high))
    return f"{_points(low)} to {_points(high)}"
