"""Hit rates of a run: how often the peak of its map lies in the marked region, by finding.

The baseline is a Gaussian at the centre of every image, which knows no image. The rates are
measured once on a sample of the test split and kept in the run's folder.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from core.classifier.trained import Trained
from core.data.base import ChestDataset
from core.errors import ConfigurationError, DataError
from core.files import write_atomically
from core.metrics.intervals import Interval
from core.saliency.report.report import Run, training_patients
from core.saliency.scores import score_maps, summary
from core.saliency.scores.score_maps import ScoringOptions

FILE = "hit-rates.json"
METHOD, BASELINE = "grad-cam", "centre-gaussian"
STUDIES = 6
"""Studies per finding, drawn at random."""


@dataclass(frozen=True)
class HitRate:
    """Hit rate on one finding, or the mean over findings.

    Attributes:
        finding: The finding.
        studies: Number of studies.
        rate: Share of studies in which the peak of the map is in the marked region.
        baseline: The same for the centre Gaussian.
        low: Lower bound of the 95% interval, over patients, of ``rate - baseline``; NaN if there is
            one patient only.
        high: Upper bound.
        hits: The studies of these in which the peak is in the marked region.
    """

    finding: str
    studies: int
    rate: float
    baseline: float
    low: float
    high: float
    hits: tuple[str, ...] = ()

    @property
    def better(self) -> bool:
        """Whether the whole interval is above the baseline."""
        return self.low > 0


@dataclass(frozen=True)
class HitRates:
    """Hit rates of a run.

    Attributes:
        method: The saliency method.
        findings: By finding, the largest lead over the baseline first.
        mean: The mean over the findings.
    """

    method: str
    findings: tuple[HitRate, ...]
    mean: HitRate

    @property
    def best(self) -> HitRate | None:
        """The finding that the run places best; None if it places none better than the baseline."""
        first = self.findings[0]
        return first if first.rate > first.baseline else None


def read(folder: Path) -> HitRates | None:
    """The hit rates in a run's folder; None if they were not measured, or cannot be read."""
    try:
        stored = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return HitRates(
            stored["method"],
            tuple(_from_json(each) for each in stored["findings"]),
            _from_json(stored["mean"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def measure(
    trained: Trained,
    folder: Path,
    dataset: ChestDataset,
    *,
    lock: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> HitRates:
    """Measure the hit rates of a run on its test split, and keep them in its folder.

    Args:
        trained: The run's model.
        folder: The run's folder.
        dataset: The run's data set.
        lock: Held while maps are computed, for one finding at a time.

    Raises:
        DataError: No finding is marked on a study of the test split.
        WriteError: The file cannot be written.
    """
    run = Run("run", folder, trained)
    seen, _ = training_patients([run], dataset, trained.spec.data)
    tables = []
    for finding in trained.findings:
        options = ScoringOptions((finding,), (METHOD, BASELINE), most=STUDIES)
        try:
            with lock():
                found = score_maps.score_maps({run.name: trained}, dataset, options, seen)
        except DataError:  # nothing is marked
            continue
        except ConfigurationError:
            break
        if set(found.rows["method"]) == {METHOD, BASELINE}:
            tables.append(found.rows)
    if not tables:
        raise DataError(
            f"No map of this run can be compared with a marked region of {dataset.title}.",
            "Choose a data set with boxes or masks, such as phantom-14, NIH or RSNA.",
        )
    result = rates_of(pd.concat(tables, ignore_index=True))
    text = json.dumps(
        {
            "method": result.method,
            "findings": [_as_json(each) for each in result.findings],
            "mean": _as_json(result.mean),
        }
    )
    write_atomically(folder / FILE, text.encode())
    return result


def rates_of(rows: pd.DataFrame) -> HitRates:
    """Hit rates from the maps of one run by the method and by the baseline.

    Args:
        rows: As ``score_maps.ScoredMaps.rows``.
    """
    own = rows[(rows["method"] == METHOD) & (rows["hit"] == 1)]
    rates = []
    for contrast in summary.contrasts(rows[[*_COLUMNS]]):
        hits = contrast.scores["hit"]
        gap: Interval = hits.difference
        studies = tuple(own.loc[own["finding"] == contrast.finding, "study"])
        rates.append(
            HitRate(
                contrast.finding, contrast.studies, hits.first, hits.second, gap.low, gap.high,
                studies,
            )
        )  # fmt: skip
    findings = [each for each in rates if each.finding != summary.MEAN]
    mean = next((each for each in rates if each.finding == summary.MEAN), findings[0])
    findings.sort(key=lambda each: (each.baseline - each.rate, -each.rate))
    return HitRates(METHOD, tuple(findings), mean)


_COLUMNS = ("run", "method", "finding", "study", "patient", "area", *score_maps.SCORES)


def _as_json(rate: HitRate) -> dict[str, object]:
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in asdict(rate).items()
    }


def _from_json(value: dict[str, Any]) -> HitRate:
    known = {name: math.nan if each is None else each for name, each in value.items()}
    return HitRate(**known | {"hits": tuple(value["hits"])})
