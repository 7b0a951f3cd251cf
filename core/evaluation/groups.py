"""Groups of runs that differ only in the seed, their titles, and the settings that differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core.config.fields import fields
from core.config.run import RunSpec
from core.models.tuning.registry import TUNING_METHODS

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
    "data.fold": "fold",
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
    """A completed run, or the runs of all folds of a cross-validation with one seed.

    Attributes:
        id: The run's id; with folds, that of the first.
        spec: Its specification.
        folder: Its folder, with its predictions.
        others: Folders of the other folds.
    """

    id: str
    spec: RunSpec
    folder: Path
    others: tuple[Path, ...] = ()

    @property
    def folders(self) -> tuple[Path, ...]:
        """Folders of the run, or of all folds."""
        return (self.folder, *self.others)


@dataclass(frozen=True)
class Group:
    """Runs that differ only in the seed.

    Attributes:
        title: What distinguishes the group from the others: ``LoRA r 4``.
        spec: Specification of the first run.
        trials: One run per seed, in the order of the seeds.
        tuned: Whether a tuning has chosen the learning rate, which may be the default.
    """

    title: str
    spec: RunSpec
    trials: tuple[Trial, ...]
    tuned: bool = False


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


def same_but_seed(spec: RunSpec) -> str:
    """A key that is equal for runs that differ only in the seed, and in the fold of as many."""
    plain = spec.resolved().model_dump(mode="json")
    if spec.data.fold is not None:
        plain["data"]["fold"] = fold_count(spec)
    if plain["data"]["subset_seed"] == plain["train"]["seed"]:
        plain["data"]["subset_seed"] = None
    for path in REPETITION:
        section, name = path.split(".")
        if path != "data.root" or spec.data.name != FOLDER:
            plain[section][name] = None
    if spec.adapter.combined is not None:
        # Another seed of an ensemble has other members; the rank of a soup follows from them.
        plain["adapter"] = {"method": spec.adapter.method, "combined": spec.adapter.kind()}
        return repr(plain)
    method = TUNING_METHODS.get(spec.adapter.method)
    for name in list(plain["adapter"]):
        if method is not None and name not in ("method", *method.options):
            plain["adapter"][name] = None
    return repr(plain)


def grouped(trials: Iterable[Trial]) -> list[Group]:
    """Group runs that differ only in the seed, in the order of their first members.

    Of two runs with the same seed the later one in ``trials`` is used. The folds of a
    cross-validation are joined, so that its out-of-fold predictions count as one model per seed;
    seeds without all folds are left out.
    """
    by_key: dict[str, dict[int, dict[str, Trial]]] = {}
    for trial in trials:
        seeds = by_key.setdefault(same_but_seed(trial.spec), {})
        seeds.setdefault(trial.spec.train.seed, {})[trial.spec.data.fold or ""] = trial
    joined = [
        tuple(filter(None, (_joined(seeds[seed]) for seed in sorted(seeds))))
        for seeds in by_key.values()
    ]
    members = [trials_of for trials_of in joined if trials_of]
    specs = [trials_of[0].spec for trials_of in members]
    return [
        Group(title, spec, own)
        for title, spec, own in zip(titles(specs), specs, members, strict=True)
    ]


def fold_count(spec: RunSpec) -> int:
    """Number of folds of a run's cross-validation; 0 without one."""
    return int(spec.data.fold.partition("/")[2]) if spec.data.fold else 0


def folds_of(spec: RunSpec) -> list[RunSpec]:
    """The specifications of all folds of a run's cross-validation; the run's own without one."""
    count = fold_count(spec)
    datas = [spec.data.model_copy(update={"fold": f"{k}/{count}"}) for k in range(1, count + 1)]
    return [spec.model_copy(update={"data": data}) for data in datas] or [spec]


def _joined(folds: Mapping[str, Trial]) -> Trial | None:
    """The runs of one seed as one trial; None if folds are missing."""
    parts = [folds[fold] for fold in sorted(folds, key=lambda fold: int(f"0{fold.split('/')[0]}"))]
    first = parts[0]
    if len(parts) < fold_count(first.spec):
        return None
    return replace(first, others=tuple(part.folder for part in parts[1:]))


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
    if spec.adapter.combined is not None:
        return f"{spec.adapter.kind()} runs"
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
        given = not all(is_default(spec, setting.path) for spec in resolved)
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
        if setting.path.startswith(("data.", "train.")) and is_default(spec, setting.path)
    ]
    supported = TUNING_METHODS[method].options if method in TUNING_METHODS else {}
    foreign = [f"adapter.{name}" for name in spec.adapter.own() if name not in supported]
    opened = spec.without(*defaults, *foreign)
    changes = {"method": method, "imported": None, "combined": None}
    adapter = opened.adapter.model_copy(update=changes)
    return opened.model_copy(update={"adapter": adapter})


def _has_effect(spec: RunSpec, path: str) -> bool:
    """Whether a setting has an effect in this run."""
    if path in spec.without_effect():
        return False
    section, name = path.split(".")
    method = TUNING_METHODS.get(spec.adapter.method)
    if section == "adapter" and name != "method" and method is not None:
        return name in method.options
    return not (path == "train.momentum" and spec.train.optimizer == "adamw")


def is_default(spec: RunSpec, path: str) -> bool:
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
