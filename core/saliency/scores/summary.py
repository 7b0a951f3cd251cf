"""Tables of a saliency report: mean scores and paired differences, from one row per map."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.metrics.intervals import Interval, PairedTest
from core.saliency.methods.registry import SALIENCY_METHODS
from core.saliency.scores import patient_means, score_maps

MEAN = "mean over findings"


@dataclass(frozen=True)
class Cell:
    """Scores of one method and run on one finding, or on all.

    Attributes:
        method: The method.
        finding: The finding, or ``MEAN``.
        run: The run's name.
        studies: Number of scored maps.
        patients: Number of their patients.
        area: Mean share of the image that is marked: the ``energy`` of a uniform map.
        scores: Mean of each score with its interval over patients.
    """

    method: str
    finding: str
    run: str
    studies: int
    patients: int
    area: float
    scores: dict[str, Interval]


@dataclass(frozen=True)
class Contrast:
    """Two runs with one method, or two methods of one run, on the same studies.

    Attributes:
        first: Run and method.
        second: Run and method that is subtracted.
        finding: The finding, or ``MEAN``.
        studies: Studies with both maps.
        scores: First minus second of each score, with its interval over patients.
    """

    first: tuple[str, str]
    second: tuple[str, str]
    finding: str
    studies: int
    scores: dict[str, PairedTest]


def cells(rows: pd.DataFrame, *, draws: int = 2000, seed: int = 0) -> list[Cell]:
    """Score every method × finding × run, and each method × run over all findings.

    Args:
        rows: As ``score_maps.ScoredMaps.rows``.
        draws: Bootstrap draws of patients.
        seed: Seed of the draws.
    """
    names = score_maps.scores_of(rows)
    result = []
    for method, run in _pairs(rows):
        own = rows[(rows["method"] == method) & (rows["run"] == run)]
        for finding in _findings(own):
            part = own if finding == MEAN else own[own["finding"] == finding]
            patients = _patients(part)
            scores = {
                name: patient_means.mean_interval(
                    _table(part, name), patients, draws=draws, seed=seed
                )
                for name in names
            }
            count = int(part["patient"].nunique())
            result.append(
                Cell(method, finding, run, len(part), count, float(part["area"].mean()), scores)
            )
    return result


def contrasts(rows: pd.DataFrame, *, draws: int = 2000, seed: int = 0) -> list[Contrast]:
    """The first run minus each other run by method, and each method minus the baseline by run.

    Args:
        rows: As ``score_maps.ScoredMaps.rows``.
        draws: Bootstrap draws of patients.
        seed: Seed of the draws.
    """
    runs = list(dict.fromkeys(rows["run"]))
    names = list(dict.fromkeys(rows["method"]))
    methods = [name for name in names if not SALIENCY_METHODS[name].baseline]
    baselines = [name for name in names if SALIENCY_METHODS[name].baseline]
    pairs = [((runs[0], m), (other, m)) for other in runs[1:] for m in methods]
    pairs += [((run, m), (run, b)) for run, m, b in itertools.product(runs, methods, baselines)]
    result = []
    for first, second in pairs:
        a, b = _of(rows, first), _of(rows, second)
        # Paired: only studies that both sides explain, in the same order.
        shared = a.index.intersection(b.index)
        if not len(shared):
            continue
        a, b = a.loc[shared].reset_index(), b.loc[shared].reset_index()
        for finding in _findings(a):
            left = a if finding == MEAN else a[a["finding"] == finding]
            right = b.loc[left.index]
            scores = {
                name: patient_means.paired_difference(
                    _table(left, name), _table(right, name), _patients(left), draws=draws, seed=seed
                )
                for name in score_maps.scores_of(rows)
            }
            result.append(Contrast(first, second, finding, len(left), scores))
    return result


def distractor_shares(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean share of the maps on borders, markers and tubes, over the studies that have them.

    Returns:
        Indexed by method and run; one column per kind of distractor, and ``NAME studies`` with the
        number of studies.
    """
    columns = [name for name in rows.columns if str(name).startswith("on ")]
    grouped = rows.groupby(["method", "run"], sort=False)[columns]
    counted = grouped.count().rename(columns=lambda name: f"{name} studies")
    return pd.concat([grouped.mean(), counted], axis=1)


def _pairs(rows: pd.DataFrame) -> list[tuple[str, str]]:
    return list(dict.fromkeys(zip(rows["method"], rows["run"], strict=True)))


def _findings(rows: pd.DataFrame) -> list[str]:
    """The findings, and their mean if there are several."""
    named = list(dict.fromkeys(rows["finding"]))
    return [*named, MEAN] if len(named) > 1 else named


def _of(rows: pd.DataFrame, pair: tuple[str, str]) -> pd.DataFrame:
    """The rows of one run and method."""
    own = rows[(rows["run"] == pair[0]) & (rows["method"] == pair[1])]
    return own.set_index(["finding", "study"])


def _patients(rows: pd.DataFrame) -> list[str]:
    """The patient of each row of ``_table``."""
    return list(rows.groupby("study", sort=True)["patient"].first())


def _table(rows: pd.DataFrame, name: str) -> NDArray[np.float64]:
    """Studies × findings, NaN where there is no value."""
    wide = rows.pivot_table(index="study", columns="finding", values=name, dropna=False, sort=True)
    table: NDArray[np.float64] = wide.reindex(sorted(set(rows["study"]))).to_numpy(np.float64)
    return table
