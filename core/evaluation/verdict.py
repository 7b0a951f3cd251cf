"""Verdict on two groups of runs: which one is better, and whether the runs support that.

A difference can be due to chance in two ways: by the seed (labelled subset, head, order) and by the
patients of the test split. A group is called better only if both intervals exclude zero.
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
from core.evaluation.predictions import aligned, read_predictions
from core.formatting import capitalized, points
from core.metrics.auroc import macro, per_finding
from core.metrics.bootstrap import DRAWS, group_bootstrap
from core.metrics.intervals import Interval
from core.metrics.seed_tests import SeedsTest, seeds_paired, seeds_unpaired
from core.models.tuning.registry import TUNING_METHODS

Evidence = Literal["above", "below", "unclear", "undecided"]

REPETITION = ("train.seed", "train.device", "train.precision", "data.root")
"""Settings in which the runs of a group may differ: the seed, the machine and the data folder."""

FOLDER = "folder"
"""The custom data set: another root is another data set."""

LABELS = {
    "data.name": "data set",
    "data.split": "split",
    "data.findings": "set of findings",
    "data.uncertainty": "uncertain labels",
    "data.patient": "patient pattern",
    "data.label_fraction": "label fraction",
    "data.subset_seed": "subset seed",
    "data.called": "display name of the data set",
    "data.table": "label table",
    "data.columns": "columns of the label table",
    "data.labels": "label columns",
    "data.split_file": "list of training studies",
    "data.skip_bad": "bad images skipped",
    "data.shuffle_labels": "shuffled labels",
    "model.pretrained": "pre-trained weights",
    "adapter.rate_ratio": "learning rate of B over A",
    "adapter.initial_rank": "initial rank",
    "train.lr": "learning rate",
    "train.min_lr": "final learning rate",
    "train.warmup_epochs": "warm-up epochs",
    "train.layer_decay": "layer-wise decay",
}
"""Labels of settings that are not simply the field's name."""


@dataclass(frozen=True)
class Trial:
    """A completed run.

    Attributes:
        id: The run's id.
        spec: Its specification.
        folder: Its folder, with its predictions.
    """

    id: str
    spec: RunSpec
    folder: Path


@dataclass(frozen=True)
class Group:
    """Runs that differ only in the seed.

    Attributes:
        title: What distinguishes the group from the others: ``LoRA r 4``.
        spec: Specification of the first run.
        trials: One run per seed, in the order of the seeds.
    """

    title: str
    spec: RunSpec
    trials: tuple[Trial, ...]


@dataclass(frozen=True)
class Differing:
    """A setting in which runs differ.

    Attributes:
        path: Its dotted name.
        label: Its display name.
        values: One value per run, as text; a dash if the run's method has no such setting.
        given: Whether it was chosen; False if it follows from method and optimizer.
    """

    path: str
    label: str
    values: tuple[str, ...]
    given: bool


@dataclass(frozen=True)
class Verdict:
    """Whether the first group is better than the second, with its evidence.

    Attributes:
        sentence: The answer, with its interval and the number of seeds.
        evidence: ``above`` or ``below`` if both intervals exclude zero, ``unclear`` if one of them
            contains it, ``undecided`` with fewer than two seeds per side.
        difference: Mean AUROC of the first minus the second, 0 to 1; interval over seeds, or NaN.
        over_patients: The same difference with its interval over patients of the split.
        seeds: The test over seeds.
        notes: Restrictions that the reader should know.
    """

    sentence: str
    evidence: Evidence
    difference: Interval
    over_patients: Interval
    seeds: SeedsTest
    notes: tuple[str, ...]


def same_but_seed(spec: RunSpec) -> str:
    """A key that is equal for runs that differ only in the seed."""
    plain = spec.resolved().model_dump(mode="json")
    if plain["data"]["subset_seed"] == plain["train"]["seed"]:
        plain["data"]["subset_seed"] = None
    for path in REPETITION:
        section, name = path.split(".")
        if path != "data.root" or spec.data.name != FOLDER:
            plain[section][name] = None
    method = TUNING_METHODS.get(spec.adapter.method)
    for name in list(plain["adapter"]):
        if method is not None and name not in ("method", *method.options):
            plain["adapter"][name] = None
    return repr(plain)


def grouped(trials: Iterable[Trial]) -> list[Group]:
    """Group runs that differ only in the seed, in the order of their first members.

    Of two runs with the same seed the later one in ``trials`` is used.
    """
    by_key: dict[str, dict[int, Trial]] = {}
    for trial in trials:
        by_key.setdefault(same_but_seed(trial.spec), {})[trial.spec.train.seed] = trial
    members = [tuple(seeds[seed] for seed in sorted(seeds)) for seeds in by_key.values()]
    specs = [trials_of[0].spec for trials_of in members]
    return [
        Group(title, spec, own)
        for title, spec, own in zip(titles(specs), specs, members, strict=True)
    ]


def titles(specs: Sequence[RunSpec]) -> list[str]:
    """A short name for each specification: the method, and the other settings that differ."""
    excluded = ("adapter.method", "adapter.rank", *REPETITION)
    others = [each for each in differing(specs) if each.path not in excluded and each.given]
    return [
        " · ".join(filter(None, (adapter(spec), *(_value_in_title(each, i) for each in others))))
        for i, spec in enumerate(specs)
    ]


def adapter(spec: RunSpec) -> str:
    """The method as it is written in a sentence: ``LoRA r 4``, ``full fine-tuning``."""
    method = TUNING_METHODS.get(spec.adapter.method)
    if method is None:
        return spec.adapter.method
    title = method.title
    title = title if title[1:] != title[1:].lower() else title[0].lower() + title[1:]
    return f"{title} r {spec.adapter.rank}" if "rank" in method.options else title


def differing(specs: Sequence[RunSpec]) -> list[Differing]:
    """The settings in which runs differ, the chosen ones first.

    Args:
        specs: The runs' specifications.
    """
    resolved = [spec.resolved() for spec in specs]
    differences = []
    for setting in fields():
        section, name = setting.path.split(".")
        values = [getattr(getattr(spec, section), name) for spec in resolved]
        if setting.path == "data.subset_seed" and values == [s.train.seed for s in resolved]:
            continue
        used = [_has_effect(spec, setting.path) for spec in resolved]
        compared = {value for value, effect in zip(values, used, strict=True) if effect}
        if len(compared) < 2:
            continue
        given = not all(_is_default(spec, setting.path) for spec in resolved)
        texts = tuple(
            _text(setting.path, value) if effect else "–"
            for value, effect in zip(values, used, strict=True)
        )
        label = LABELS.get(setting.path, name.replace("_", " "))
        differences.append(Differing(setting.path, label, texts, given))
    return sorted(differences, key=lambda each: not each.given)


def counterpart(spec: RunSpec, method: str) -> RunSpec:
    """The same run with another method, whose own defaults replace those of the first."""
    defaults = [
        setting.path
        for setting in fields()
        if setting.path.startswith(("data.", "train.")) and _is_default(spec, setting.path)
    ]
    supported = TUNING_METHODS[method].options if method in TUNING_METHODS else {}
    foreign = [f"adapter.{name}" for name in spec.adapter.own() if name not in supported]
    opened = spec.without(*defaults, *foreign)
    adapter = opened.adapter.model_copy(update={"method": method})
    return opened.model_copy(update={"adapter": adapter})


def verdict(first: Group, second: Group, split: str = "test", *, draws: int = DRAWS) -> Verdict:
    """Say whether the first group is better than the second.

    Args:
        first: Runs of one group.
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
    predictions = aligned(
        [read_predictions(trial.folder, split) for side in sides for trial in side]
    )
    aurocs = [macro(per_finding(each.labels, each.scores)) for each in predictions]
    scores = [each.scores for each in predictions]
    cut = len(sides[0])
    test = (seeds_paired if shared else seeds_unpaired)(aurocs[:cut], aurocs[cut:])
    labels, patient_ids = predictions[0].labels, predictions[0].patients
    patients = group_bootstrap(labels, scores[:cut], scores[cut:], patient_ids, draws).difference
    evidence = _evidence(test, patients)
    sentence = _sentence(first.title, second.title, test, patients, evidence, split)
    notes = tuple(_notes(first, second, test, bool(shared), len(np.unique(patient_ids))))
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
    claim = f"{capitalized(first)} is {points(abs(gap.value), sign=False)} points {word} {second}"
    if f"{abs(100 * gap.value):.1f}" == "0.0":
        claim = f"{capitalized(first)} and {second} score equally"
    over_patients = _range(patients, sign)
    if evidence == "undecided":
        lead = claim[0].lower() + claim[1:] if claim.startswith(("Full", "Linear")) else claim
        fewest = "one seed" if test.count == 1 else "so few seeds"
        return (
            f"Not decidable with {fewest}: {lead} on these patients (95% interval over patients "
            f"{over_patients}), but another seed may reverse it."
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
        each
        for each in differing([first.spec, second.spec])
        if each.given and each.path not in REPETITION and each.path != "adapter.rank"
    ]
    if len(chosen) > 1:
        named = ", ".join(each.label for each in chosen)
        yield f"They differ in {named}: the difference cannot be attributed to one of them."
    if paired and test.count > 1:
        decided = test.count - test.ties
        yield (
            f"{capitalized(first.title)} scores higher with {test.wins} of {decided} seeds"
            f" (95% interval of this share {test.win_rate.low:.0%} to {test.win_rate.high:.0%})."
            if decided
            else "Both score equally with every seed."
        )
    if not paired:
        yield "They have no seed in common; the seeds are compared as two unpaired groups."
    if test.count in (2, 3):
        yield "With so few seeds the interval is wide; five or more make it useful."
    if patients < 50:
        yield f"The split has only {patients} patients."


def _seeds(group: Group) -> set[int]:
    return {trial.spec.train.seed for trial in group.trials}


def _has_effect(spec: RunSpec, path: str) -> bool:
    """Whether a setting has an effect in this run."""
    section, name = path.split(".")
    method = TUNING_METHODS.get(spec.adapter.method)
    if section == "adapter" and name != "method" and method is not None:
        return name in method.options
    return not (path == "train.momentum" and spec.train.optimizer == "adamw")


def _is_default(spec: RunSpec, path: str) -> bool:
    """Whether a value is the default that depends on the run's other settings."""
    section, name = path.split(".")
    part = getattr(spec, section)
    if type(RunSpec.model_fields[section].default).model_fields[name].default is not None:
        return False
    default = spec.without(path).resolved()
    return bool(getattr(getattr(default, section), name) == getattr(part, name))


def _text(path: str, value: Any) -> str:
    if path == "data.label_fraction":
        return f"{100 * value:g}%"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "default"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _value_in_title(setting: Differing, i: int) -> str:
    value = setting.values[i]
    if value == "–":
        return ""
    if setting.path == "data.label_fraction":
        return f"{value} labels"
    if setting.path == "model.pretrained":
        return "" if value == "yes" else "random weights"
    if setting.path in ("model.backbone", "data.name", "data.split", "train.optimizer"):
        return value
    return f"{setting.label} {value}"


def _range(interval: Interval, sign: int) -> str:
    """The bounds in points, from the side of the group that scores higher."""
    if math.isnan(interval.low):
        return "not defined"
    low, high = sorted((sign * interval.low, sign * interval.high))
    return f"{points(low, sign=False)} to {points(high, sign=False)}"
