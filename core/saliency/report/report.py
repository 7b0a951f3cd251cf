"""Compute a saliency report: where runs look on marked studies, with intervals and differences."""

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
from core.saliency.scores import label_free, localisation, summary
from core.saliency.scores.label_free import LabelFreeScores
from core.saliency.scores.localisation import marked_region
from core.saliency.scores.sanity import FAILING_CORRELATION
from core.saliency.scores.score_maps import Progress, ScoredMaps, ScoringOptions, score_maps
from core.saliency.scores.summary import Cell, Contrast
from core.workspace import SUBSET

SHEET_STUDIES = 10
"""Number of the best and of the worst studies on a contact sheet."""


@dataclass(frozen=True)
class Run:
    """A run of a report, with its folder, its model, and a name that is unique in the report."""

    name: str
    folder: Path
    trained: Trained


@dataclass(frozen=True)
class Report:
    """The content of a report.

    Attributes:
        title: The data set's title.
        split: The data set's split, and which of train, val and test.
        options: Which maps were computed, and how they were scored.
        runs: Names of the runs in order.
        maps: One row per map, and what was left out.
        cells: Mean scores with intervals.
        contrasts: Paired differences.
        label_free: Scores that need no marked regions.
        sheets: Contact sheets as PNG, by title.
        notes: What a reader must know, one sentence each.
    """

    title: str
    split: str
    options: ScoringOptions
    runs: tuple[str, ...]
    maps: ScoredMaps
    cells: list[Cell]
    contrasts: list[Contrast]
    label_free: list[LabelFreeScores]
    sheets: dict[str, bytes]
    notes: tuple[str, ...]


def load(folders: dict[str, Path]) -> list[Run]:
    """Load the models of finished runs from their folders, by name.

    Raises:
        ModelError: A run has no weights, or they do not fit; the message names the run.
    """
    runs = []
    for name, folder in folders.items():
        try:
            runs.append(Run(name, folder, load_trained(folder)))
        except CoreError as error:
            raise type(error)(f"{name}: {error.cause}", error.remedy) from error
    return runs


def make(
    runs: Sequence[Run],
    dataset: ChestDataset,
    data: DataSpec,
    options: ScoringOptions,
    *,
    check: int = 0,
    shown: int = SHEET_STUDIES,
    draws: int = 2000,
    progress: Progress | None = None,
) -> Report:
    """Explain, score and compare the runs, and draw the contact sheets.

    Args:
        runs: The first is compared with each other run.
        dataset: The data set of the studies.
        data: How it was opened.
        options: Findings, methods, split and parameters of the scores.
        check: Studies per finding for insertion, deletion, ROAD, stability and the sanity check,
            which are slow; 0 skips them.
        shown: Number of the best and of the worst studies on the contact sheets; 0 skips the
            sheets.
        draws: Bootstrap draws of patients.
        progress: Called with the numbers of finished and of all maps.

    Raises:
        CoreError: As ``score_maps``.
    """
    models = {run.name: run.trained for run in runs}
    seen, seen_notes = training_patients(runs, dataset, data)
    maps = score_maps(models, dataset, options, seen, progress)
    scores: list[LabelFreeScores] = []
    score_notes: list[str] = []
    if check:
        images = _first_images(maps.rows, dataset, check)
        scores, score_notes = label_free.score_all(models, images, options.methods)
    sheets: dict[str, bytes] = {}
    if shown:
        sheets = contact_sheets(models, dataset, maps.rows, options, shown)
    return Report(
        title=dataset.title,
        split=f"{dataset.split_name}, {'/'.join(options.split)}",
        options=options,
        runs=tuple(models),
        maps=maps,
        cells=summary.cells(maps.rows, draws=draws),
        contrasts=summary.contrasts(maps.rows, draws=draws),
        label_free=scores,
        sheets=sheets,
        notes=(*_split_notes(options, maps), *seen_notes, *maps.notes, *score_notes,
               *_sanity_notes(scores), *_control_notes(runs, maps), *dataset.notes),
    )  # fmt: skip


def training_patients(
    runs: Sequence[Run], dataset: ChestDataset, data: DataSpec
) -> tuple[frozenset[str], tuple[str, ...]]:
    """Patients whose labels a run was trained on, as far as they are known.

    Returns:
        Patients of the data set, and a sentence for each run whose training studies are not known.
    """
    patients: set[str] = set()
    notes = []
    for run in runs:
        own = run.trained.spec.data
        subset = run.folder / SUBSET
        if own.name != data.name:
            notes.append(
                f"{run.name} was trained on {own.name}: the names of its studies do not show "
                "whether images of this report were among its training images."
            )
            continue
        if not subset.exists():
            notes.append(f"{run.name} has no list of its training studies.")
            continue
        try:
            ids = _listed_studies(dataset, subset)
        except CoreError as error:
            notes.append(f"{run.name}: {error.cause}")
            continue
        patients |= set(dataset.table.loc[ids, "patient"].astype(str))
    return frozenset(patients), tuple(notes)


def _listed_studies(dataset: ChestDataset, subset: Path) -> list[str]:
    """Studies of a run's own list; those of another split of the data set count as well."""
    names = set(splits.read_list(subset).files)
    ids = [str(study) for study in dataset.table.index if dataset.listed_as(str(study)) in names]
    return ids or listed(dataset, subset)


def _split_notes(options: ScoringOptions, maps: ScoredMaps) -> tuple[str, ...]:
    left_out = sum(maps.left_out.values())
    notes = []
    if left_out:
        notes.append(
            f"{left_out:,} marked studies were left out: a run was trained on their patients."
        )
    if options.with_seen:
        notes.append(
            "Studies that runs were trained on are included: their scores are no evidence."
        )
    if "val" in options.split:
        notes.append("The epoch of each run was chosen on the validation split.")
    if len({*maps.rows["run"]}) > 1:
        notes.append("Intervals are over patients; they do not include the variation of seeds.")
    return tuple(notes)


def _sanity_notes(scores: Sequence[LabelFreeScores]) -> tuple[str, ...]:
    failed = [item for item in scores if item.sanity is not None and item.sanity.failed]
    return tuple(dict.fromkeys(f"{item.run}: {item.sentence}" for item in failed))


def _control_notes(runs: Sequence[Run], maps: ScoredMaps) -> Iterator[str]:
    """Comparison of each run with runs on shuffled labels (Adebayo et al. 2018)."""
    controls = {run.name for run in runs if run.trained.spec.data.shuffle_labels}
    columns = ("run", "method", "other_run", "other_method", "correlation")
    pairs = zip(*(maps.agreement[column] for column in columns), strict=True)
    for first, method, second, other_method, shared in pairs:
        # Exactly one of the two is a control: two controls or two real runs show nothing here.
        one_control = len({first, second} & controls) == 1
        if method != other_method or not one_control or SALIENCY_METHODS[method].baseline:
            continue
        run, control = (second, first) if first in controls else (first, second)
        title = SALIENCY_METHODS[method].title
        if np.isnan(shared):
            verdict = "the maps of one run have the same value everywhere, and cannot be compared"
        elif shared >= FAILING_CORRELATION:
            verdict = "its maps show the image or the architecture more than what was learnt"
        else:
            verdict = "its maps differ if nothing was learnt"
        yield f"{title}, {run} against {control} (shuffled labels), {shared:.2f}: {verdict}."


def _first_images(
    rows: pd.DataFrame, dataset: ChestDataset, count: int
) -> dict[str, list[NDArray[np.uint8]]]:
    """Images of the first studies of each finding."""
    firsts = rows.drop_duplicates(["finding", "study"]).groupby("finding", sort=False).head(count)
    return {
        str(finding): [dataset.read(str(study)) for study in part["study"]]
        for finding, part in firsts.groupby("finding", sort=False)
    }


def contact_sheets(
    models: dict[str, Trained],
    dataset: ChestDataset,
    rows: pd.DataFrame,
    options: ScoringOptions,
    count: int,
) -> dict[str, bytes]:
    """The studies with the best and the worst maps of the first method, each by all runs.

    Studies are ordered by the mean over runs of the energy inside the marked region divided by the
    energy of a uniform map, so that large regions have no advantage.

    Returns:
        PNG by title.
    """
    method = next((name for name in options.methods if not SALIENCY_METHODS[name].baseline), None)
    if method is None:
        return {}
    own = rows[rows["method"] == method]
    if own.empty:
        return {}
    lift = own.assign(lift=own["energy"] / own["area"])
    order = lift.groupby(["finding", "study"])["lift"].mean().sort_values(ascending=False)
    best = list(order.index[:count])
    worst = [pair for pair in order.index[::-1][:count] if pair not in best]
    title = SALIENCY_METHODS[method].title
    sheets = {}
    for word, studies in (("best", best), ("worst", worst)):
        if studies:
            sheets[f"{title}: the {len(studies)} {word} studies"] = contact_sheet.draw(
                _sheet_rows(models, dataset, studies, method),
                f"{title}: the {word} of {len(order):,} studies, {dataset.title}",
            )
    return sheets


def _sheet_rows(
    models: dict[str, Trained],
    dataset: ChestDataset,
    studies: Sequence[tuple[str, str]],
    method: str,
) -> list[contact_sheet.Row]:
    """One row of tiles per run, of pairs of finding and study."""
    tiles: dict[str, list[contact_sheet.Tile]] = {name: [] for name in models}
    for finding, study in studies:
        image = dataset.read(study)
        region = marked_region(dataset, study, finding, (image.shape[0], image.shape[1]))
        assert region is not None
        without = None
        if SALIENCY_METHODS[method].paired:
            without = dataset.counterfactual(study, finding)
        for name, trained in models.items():
            if finding not in trained.findings:
                continue
            made = explain_study(trained, image, finding, method, without=without)
            energy = localisation.energy_inside(made.map, region)
            share = "nothing" if np.isnan(energy) else f"{energy:.0%} in, {region.mean():.0%} area"
            title = f"{finding.replace('_', ' ')} p {made.probability:.2f}\n{share}"
            tiles[name].append(contact_sheet.Tile(image, made.map, region, title))
    return [contact_sheet.Row(name, tuple(own)) for name, own in tiles.items() if own]
