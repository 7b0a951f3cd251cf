"""Tables of a saliency report: scores with intervals, and differences, from one row a map."""

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
    """One method and run on one finding, or on all.

    Attributes:
        method: The method.
        finding: The finding, or ``MEAN``.
        run: The run's name.
        studies: Maps that were scored.
        patients: Patients they come from.
        area: Mean share of the picture that is marked: what ``energy`` is for an even map.
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
    """Two runs by one method, or two methods of one run, on the same studies.

    Attributes:
        first: Run and method.
        second: Run and method that are subtracted.
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
        rows: As ``judging.Judged.rows``.
        draws: Resamples of the patients.
        seed: Seed of the resamples.
    """
    names = score_maps.scores_of(rows)
    found = []
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
            }  # fmt: skip
            count = int(part["patient"].nunique())
            found.append(
                Cell(method, finding, run, len(part), count, float(part["area"].mean()), scores)
            )
    return found


def contrasts(rows: pd.DataFrame, *, draws: int = 2000, seed: int = 0) -> list[Contrast]:
    """The first run minus each other one by each method, and each method minus the baseline.

    Args:
        rows: As ``judging.Judged.rows``.
        draws: Resamples of the patients.
        seed: Seed of the resamples.
    """
    runs = list(dict.fromkeys(rows["run"]))
    names = list(dict.fromkeys(rows["method"]))
    looking = [name for name in names if not SALIENCY_METHODS[name].baseline]
    yardsticks = [name for name in names if SALIENCY_METHODS[name].baseline]
    asked = [((runs[0], m), (other, m)) for other in runs[1:] for m in looking]
    asked += [((run, m), (run, b)) for run, m, b in itertools.product(runs, looking, yardsticks)]
    found = []
    for first, second in asked:
        a, b = _of(rows, first), _of(rows, second)
        shared = a.index.intersection(b.index)
        if not len(shared):
            continue
        a, b = a.loc[shared].reset_index(), b.loc[shared].reset_index()
        for finding in _findings(a):
            one = a if finding == MEAN else a[a["finding"] == finding]
            other = b.loc[one.index]
            scores = {
                name: patient_means.paired_difference(
                    _table(one, name), _table(other, name), _patients(one), draws=draws, seed=seed
                )
                for name in score_maps.scores_of(rows)
            }
            found.append(Contrast(first, second, finding, len(one), scores))
    return found


def beside(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean share of the maps on borders, markers and tubes, where a study has them.

    Returns:
        Indexed by method and run; one column a thing, and ``NAME studies`` with their number.
    """
    columns = [name for name in rows.columns if str(name).startswith("on ")]
    grouped = rows.groupby(["method", "run"], sort=False)[columns]
    counted = grouped.count().rename(columns=lambda name: f"{name} studies")
    return pd.concat([grouped.mean(), counted], axis=1)


def _pairs(rows: pd.DataFrame) -> list[tuple[str, str]]:
    return list(dict.fromkeys(zip(rows["method"], rows["run"], strict=True)))


def _findings(rows: pd.DataFrame) -> list[str]:
    """The findings, and their mean where there are several."""
    named = list(dict.fromkeys(rows["finding"]))
    return [*named, MEAN] if len(named) > 1 else named


def _of(rows: pd.DataFrame, which: tuple[str, str]) -> pd.DataFrame:
    own = rows[(rows["run"] == which[0]) & (rows["method"] == which[1])]
    return own.set_index(["finding", "study"])


def _patients(rows: pd.DataFrame) -> list[str]:
    """Whose each row of ``_table`` is."""
    return list(rows.groupby("study", sort=True)["patient"].first())


def _table(rows: pd.DataFrame, name: str) -> NDArray[np.float64]:
    """Studies × findings, NaN where there is none."""
    wide = rows.pivot_table(index="study", columns="finding", values=name, dropna=False, sort=True)
    table: NDArray[np.float64] = wide.reindex(sorted(set(rows["study"]))).to_numpy(np.float64)
    return table
