"""A saliency report: where runs look on marked studies, who is right, and how sure that is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.classifier.trained import Trained, load_trained
from core.config.run import DataSpec
from core.data import splits
from core.data.base import ChestDataset
from core.data.subsets import listed
from core.errors import CoreError
from core.saliency.explain import explain_study
from core.saliency.methods.registry import SALIENCY_METHODS
from core.saliency.report import contact_sheet
from core.saliency.scores import label_free, localisation, score_maps, summary
from core.saliency.scores.label_free import Checked
from core.saliency.scores.localisation import marked_region
from core.saliency.scores.sanity import HARDLY
from core.saliency.scores.score_maps import Judged, Progress, Question
from core.saliency.scores.summary import Cell, Contrast
from core.workspace import SUBSET

SHOWN = 10
"""Studies of the best and of the worst on a contact sheet."""


@dataclass(frozen=True)
class Run:
    """A run as a report names it.

    Attributes:
        name: Unique in the report.
        folder: The run's folder.
        trained: Its model.
    """

    name: str
    folder: Path
    trained: Trained


@dataclass(frozen=True)
class Report:
    """All that a report says.

    Attributes:
        title: The data set's name for people.
        split: Its split, and which of train, val and test.
        asked: The question.
        runs: Names of the runs in order.
        judged: One row a map, and what was left out.
        cells: Scores with intervals.
        contrasts: Paired differences.
        checked: What can be said without boxes.
        sheets: Contact sheets as PNG, by title.
        notes: What a reader must know, a sentence each.
    """

    title: str
    split: str
    asked: Question
    runs: tuple[str, ...]
    judged: Judged
    cells: list[Cell]
    contrasts: list[Contrast]
    checked: list[Checked]
    sheets: dict[str, bytes]
    notes: tuple[str, ...]


def load(folders: dict[str, Path]) -> list[Run]:
    """Load the models of finished runs.

    Args:
        folders: The runs' folders by name.

    Raises:
        ModelError: A run has no weights, or they do not fit; the run is named.
    """
    found = []
    for name, folder in folders.items():
        try:
            found.append(Run(name, folder, load_trained(folder)))
        except CoreError as error:
            raise type(error)(f"{name}: {error.cause}", error.remedy) from error
    return found


def make(
    runs: Sequence[Run],
    dataset: ChestDataset,
    data: DataSpec,
    asked: Question,
    *,
    check: int = 0,
    shown: int = SHOWN,
    draws: int = 2000,
    progress: Progress | None = None,
) -> Report:
    """Explain, score, compare, and choose what to show.

    Args:
        runs: The first is compared with each other one.
        dataset: Where the studies come from.
        data: How it was opened.
        asked: Findings, methods, split and the rest.
        check: Studies of each finding for insertion, deletion, ROAD, stability and sanity, which
            are slow; 0 leaves them out.
        shown: Studies of the best and of the worst on the contact sheet; 0 leaves it out.
        draws: Resamples of the patients.
        progress: Told how many of how many maps are made.

    Raises:
        CoreError: As ``judging.judge``.
    """
    models = {run.name: run.trained for run in runs}
    seen, said = learnt_from(runs, dataset, data)
    judged = score_maps.judge(models, dataset, asked, seen, progress)
    checked: list[Checked] = []
    more: list[str] = []
    if check:
        pictures = _few(judged.rows, dataset, check)
        checked, more = label_free.check_all(models, pictures, asked.methods)
    sheets: dict[str, bytes] = {}
    if shown:
        sheets = contact_sheets(models, dataset, judged.rows, asked, shown)
    return Report(
        title=dataset.title,
        split=f"{dataset.split_name}, {'/'.join(asked.split)}",
        asked=asked,
        runs=tuple(models),
        judged=judged,
        cells=summary.cells(judged.rows, draws=draws),
        contrasts=summary.contrasts(judged.rows, draws=draws),
        checked=checked,
        sheets=sheets,
        notes=(*_about_split(asked, judged), *said, *judged.notes, *more, *_sanity(checked),
               *_controls(runs, judged), *dataset.notes),
    )  # fmt: skip


def learnt_from(
    runs: Sequence[Run], dataset: ChestDataset, data: DataSpec
) -> tuple[frozenset[str], tuple[str, ...]]:
    """Patients whose labels a run learnt from, and where that cannot be told.

    Args:
        runs: The runs.
        dataset: The report's data set.
        data: How it was opened.

    Returns:
        Patients of the data set, and sentences.
    """
    patients: set[str] = set()
    said = []
    for run in runs:
        own = run.trained.spec.data
        kept = run.folder / SUBSET
        if own.name != data.name:
            said.append(
                f"{run.name} was trained on {own.name}: whether pictures of this report were among "
                "its training pictures cannot be told from their names."
            )
            continue
        if not kept.exists():
            said.append(f"{run.name} kept no list of the studies that it learnt from.")
            continue
        try:
            ids = _of_list(dataset, kept)
        except CoreError as error:
            said.append(f"{run.name}: {error.cause}")
            continue
        patients |= set(dataset.table.loc[ids, "patient"].astype(str))
    return frozenset(patients), tuple(said)


def _of_list(dataset: ChestDataset, kept: Path) -> list[str]:
    """Studies of a run's own list; those of another split of the data set count as well."""
    named = set(splits.read_list(kept).files)
    ids = [str(one) for one in dataset.table.index if dataset.listed_as(str(one)) in named]
    return ids or listed(dataset, kept)


def _about_split(asked: Question, judged: Judged) -> tuple[str, ...]:
    left_out = sum(judged.left_out.values())
    said = []
    if left_out:
        said.append(
            f"{left_out:,} marked studies were left out: a run had learnt from their patients."
        )
    if asked.with_seen:
        said.append("Studies that runs learnt from are among these: they are no evidence.")
    if "val" in asked.split:
        said.append("The epoch of each run was chosen on the validation split.")
    if len({*judged.rows["run"]}) > 1:
        said.append("Intervals are over patients; they say nothing of other seeds.")
    return tuple(said)


def _sanity(checked: Sequence[Checked]) -> tuple[str, ...]:
    failed = [one for one in checked if one.sanity is not None and one.sanity.flagged]
    return tuple(dict.fromkeys(f"{one.run}: {one.sentence}" for one in failed))


def _controls(runs: Sequence[Run], judged: Judged) -> Iterator[str]:
    """What runs that were trained on shuffled labels say of a method (Adebayo et al. 2018)."""
    blind = {run.name for run in runs if run.trained.spec.data.shuffle_labels}
    columns = ("run", "method", "other_run", "other_method", "correlation")
    pairs = zip(*(judged.agreement[one] for one in columns), strict=True)
    for first, method, second, other_method, shared in pairs:
        one_is_blind = len({first, second} & blind) == 1
        if method != other_method or not one_is_blind or SALIENCY_METHODS[method].baseline:
            continue
        run, control = (second, first) if first in blind else (first, second)
        title = SALIENCY_METHODS[method].title
        if np.isnan(shared):
            verdict = "one of the two has even maps, so there is nothing to compare"
        elif shared >= HARDLY:
            verdict = "its maps show the picture or the architecture more than what was learnt"
        else:
            verdict = "its maps are others where nothing was learnt"
        yield f"{title}, {run} against {control} (shuffled labels), {shared:.2f}: {verdict}."


def _few(
    rows: pd.DataFrame, dataset: ChestDataset, count: int
) -> dict[str, list[NDArray[np.uint8]]]:
    """Pictures of the first few studies of each finding."""
    firsts = rows.drop_duplicates(["finding", "study"]).groupby("finding", sort=False).head(count)
    return {
        str(finding): [dataset.read(str(one)) for one in part["study"]]
        for finding, part in firsts.groupby("finding", sort=False)
    }


def contact_sheets(
    models: dict[str, Trained],
    dataset: ChestDataset,
    rows: pd.DataFrame,
    asked: Question,
    count: int,
) -> dict[str, bytes]:
    """The studies that the first method meets best and worst, each under all runs.

    Studies are ordered by the mean over runs of the energy in what is marked over what an even map
    would have there, so that large regions are no advantage.

    Returns:
        PNG by title.
    """
    method = next((name for name in asked.methods if not SALIENCY_METHODS[name].baseline), None)
    if method is None:
        return {}
    own = rows[rows["method"] == method]
    if own.empty:
        return {}
    lift = own.assign(lift=own["energy"] / own["area"])
    order = lift.groupby(["finding", "study"])["lift"].mean().sort_values(ascending=False)
    best = list(order.index[:count])
    worst = [one for one in order.index[::-1][:count] if one not in best]
    title = SALIENCY_METHODS[method].title
    found = {}
    for word, chosen in (("best", best), ("worst", worst)):
        if chosen:
            drawn = _rows(models, dataset, chosen, method)
            found[f"{title}: the {len(chosen)} {word} studies"] = contact_sheet.draw(
                drawn, f"{title}: the {word} of {len(order):,} studies, {dataset.title}"
            )
    return found


def _rows(
    models: dict[str, Trained],
    dataset: ChestDataset,
    chosen: Sequence[tuple[str, str]],
    method: str,
) -> list[contact_sheet.Row]:
    tiles: dict[str, list[contact_sheet.Tile]] = {name: [] for name in models}
    for finding, study in chosen:
        image = dataset.read(study)
        region = marked_region(dataset, study, finding, (image.shape[0], image.shape[1]))
        assert region is not None
        for name, trained in models.items():
            if finding not in trained.findings:
                continue
            without = None
            if SALIENCY_METHODS[method].paired:
                without = dataset.counterfactual(study, finding)
            made = explain_study(trained, image, finding, method, without=without)
            energy = localisation.energy_inside(made.map, region)
            share = "nothing" if np.isnan(energy) else f"{energy:.0%} in, {region.mean():.0%} area"
            title = f"{finding.replace('_', ' ')} p {made.probability:.2f}\n{share}"
            tiles[name].append(contact_sheet.Tile(image, made.map, region, title))
    return [contact_sheet.Row(name, tuple(own)) for name, own in tiles.items() if own]
