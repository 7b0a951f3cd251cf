"""How often the verdict names a winner where there is none; how often intervals hold the truth.

Run with ``python -m tests.benchmarks.verdict --simulations 1000 --out FILE``; it takes under an
hour on two cores, 200 in ten minutes. Studies of simulated patients are scored by
methods of known AUROC; errors are shared by the runs of a method, by the findings and by the
studies of a patient. Each row of the table is a setting; no setting is left out.
"""

from __future__ import annotations

import argparse
import csv
import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.metrics.intervals import Floats, holm
from core.metrics.patient_intervals import auroc_interval
from core.metrics.seeds_and_patients import (
    DifferenceTest,
    difference_test,
    mean_difference,
    share_above_zero,
)

QUANTILE = NormalDist().inv_cdf

STUDIES, PATIENTS, AUROC = 300, 210, 0.75
SEEDS = (2, 3, 5, 10, 20)
SEED_VARIANCES = (0, 1, 4)
"""Variance of a seed's difference, as a multiple of the variance over patients."""
PATIENT_ERROR = 0.02
"""Standard error over patients of the mean difference of three findings, roughly."""
PREVALENCES = {
    "2 findings, 50%": (0.5,) * 2,
    "3 findings, 30%": (0.3,) * 3,
    "3 findings, 5%": (0.05,) * 3,
    "14 findings, 4%": (0.04,) * 14,
    "12 findings, 1% to 50%": (0.5, 0.1, 0.03, 0.01) * 3,
}
GAINS = (0.02, 0.04, 0.06)
METHODS, DATA_SETS, TASKS_PER_DATA = 6, 3, 6
COLUMNS = ("measure", "findings", "seeds", "seed_variance", "value", "simulations")


@dataclass(frozen=True, eq=False)
class Cohort:
    """Labels of simulated studies, and what all methods have in common on them.

    Attributes:
        labels: Shape (studies, findings).
        patients: Shape (studies,).
        common: Shared part of all scores, of the labels' shape.
    """

    labels: Floats
    patients: NDArray[np.intp]
    common: Floats

    @classmethod
    def draw(cls, prevalences: Sequence[float], random: np.random.Generator) -> Cohort:
        """Draw studies; half the variance of labels and scores belongs to the patient."""
        extra = random.integers(0, PATIENTS, STUDIES - PATIENTS)
        patients = np.sort(np.concatenate([np.arange(PATIENTS), extra]))
        hidden = _noise(patients, len(prevalences), random)
        labels = (hidden > [QUANTILE(1 - each) for each in prevalences]).astype(float)
        shared = _noise(patients, 1, random)
        own = _noise(patients, len(prevalences), random)
        return cls(labels, patients, math.sqrt(0.3) * shared + math.sqrt(0.7) * own)

    def runs(
        self, auroc: float, seeds: int, seed_sd: float, random: np.random.Generator
    ) -> list[Floats]:
        """Scores of the runs of one method: its own errors, and those of each seed."""
        own = 0.5 * _noise(self.patients, self.labels.shape[1], random)
        scores = []
        for _ in range(seeds):
            true = min(max(auroc + seed_sd * random.normal(), 0.02), 0.98)
            noise = 0.5 * random.normal(size=self.labels.shape)
            distance = QUANTILE(true) * math.sqrt(2 * (1 + 0.5**2 + 0.5**2))
            scores.append(self.common + own + noise + distance * self.labels)
        return scores


def pair(
    prevalences: Sequence[float], seeds: int, variance: float, gain: float, seed: int
) -> DifferenceTest:
    """Test of two methods whose true AUROCs differ by ``gain``."""
    random = np.random.default_rng(seed)
    cohort = Cohort.draw(prevalences, random)
    sd = PATIENT_ERROR * math.sqrt(variance / 2)
    sides = [cohort.runs(AUROC + own, seeds, sd, random) for own in (gain, 0.0)]
    return difference_test(cohort.labels, *sides, cohort.patients, paired=True)


def page(seeds: int, variance: float, seed: int) -> bool:
    """Whether a page that compares equal methods with a baseline names any of them."""
    random = np.random.default_rng(seed)
    cohort = Cohort.draw(PREVALENCES["3 findings, 30%"], random)
    sd = PATIENT_ERROR * math.sqrt(variance / 2)
    groups = [cohort.runs(AUROC, seeds, sd, random) for _ in range(METHODS)]
    tests = [
        difference_test(cohort.labels, group, groups[0], cohort.patients, paired=True)
        for group in groups[1:]
    ]
    return bool(np.nanmin([1.0, *holm([test.p() for test in tests])]) < 0.05)


def grid(
    seeds: int, variance: float, gain: float, seed: int
) -> tuple[list[DifferenceTest], list[int]]:
    """Tests of the tasks of a grid, several on the same patients, and their data sets."""
    random = np.random.default_rng(seed)
    sd = PATIENT_ERROR * math.sqrt(variance / 2)
    tests, data = [], []
    for number in range(DATA_SETS):
        cohort = Cohort.draw(PREVALENCES["3 findings, 30%"], random)
        for _ in range(TASKS_PER_DATA):
            sides = [cohort.runs(AUROC + own, seeds, sd, random) for own in (gain, 0.0)]
            tests.append(difference_test(cohort.labels, *sides, cohort.patients, paired=True))
            data.append(number)
    return tests, data


def _noise(patients: NDArray[np.intp], findings: int, random: np.random.Generator) -> Floats:
    """Standard normal values of shape (studies, findings), correlated by 0.5 within a patient."""
    shared = random.normal(size=(PATIENTS, findings))[patients]
    own = random.normal(size=(STUDIES, findings))
    return math.sqrt(0.5) * (shared + own)


def _pair_row(name: str, seeds: int, variance: float, gain: float, seed: int) -> tuple[bool, bool]:
    test = pair(PREVALENCES[name], seeds, variance, gain, seed)
    interval = test.interval()
    covered = not test.decidable or interval.low <= gain <= interval.high
    return bool(test.p() < 0.05 and (test.value > 0 or gain == 0)), covered


def _grid_row(seeds: int, variance: float, seed: int) -> tuple[bool, bool, bool, bool]:
    tests, data = grid(seeds, variance, 0.0, seed)
    any_named = bool(np.nanmin([1.0, *holm([test.p() for test in tests])]) < 0.05)
    mean_named = bool(mean_difference(tests, data).p() < 0.05)
    share = share_above_zero(tests, data)
    limit, _ = grid(seeds, variance, 0.029, seed)
    above = [test.p(0.029) if test.value > 0.029 else 1.0 for test in limit]
    return (
        any_named,
        mean_named,
        share.low > 0.5 or share.high < 0.5,
        bool(np.nanmin([1.0, *holm(above)]) < 0.05),
    )


def _interval_row(name: str, auroc: float, seed: int) -> bool:
    random = np.random.default_rng(seed)
    cohort = Cohort.draw(PREVALENCES[name], random)
    scores = cohort.common + QUANTILE(auroc) * math.sqrt(2) * cohort.labels
    found = auroc_interval(cohort.labels, scores, cohort.patients)
    return math.isnan(found.value) or found.low <= auroc <= found.high


def _positives_row(positives: int, auroc: float, seed: int) -> bool:
    random = np.random.default_rng(seed)
    labels = np.arange(STUDIES) < positives
    scores = random.normal(size=STUDIES) + QUANTILE(auroc) * math.sqrt(2) * labels
    found = auroc_interval(labels.astype(float), scores)
    return found.low <= auroc <= found.high


def rows(simulations: int, pool: ProcessPoolExecutor) -> Iterator[tuple[Any, ...]]:
    """Rows of the table, in the order of ``COLUMNS``; shares from 0 to 1."""
    first = itertools.count(step=simulations)  # each row has its own cohorts

    def share(function: Any, *setting: Any) -> Floats:
        one, start = functools.partial(function, *setting), next(first)
        found = list(pool.map(one, range(start, start + simulations), chunksize=10))
        return np.atleast_1d(np.mean(np.array(found, dtype=float), axis=0))

    for name, seeds, variance in itertools.product(PREVALENCES, SEEDS, SEED_VARIANCES):
        winner, covered = share(_pair_row, name, seeds, variance, 0.0)
        yield "false winners, one pair", name, seeds, variance, winner
        yield "coverage, difference", name, seeds, variance, covered
    for seeds, variance in itertools.product(SEEDS, SEED_VARIANCES):
        found = share(page, seeds, variance)[0]
        yield "false winners, page of six methods", "3 findings, 30%", seeds, variance, found
    for seeds, variance in itertools.product((3, 5, 10), SEED_VARIANCES):
        found = share(_grid_row, seeds, variance)
        for measure, value in zip(
            (
                "false winners, grid of 18 tasks",
                "false winners, mean over tasks",
                "false winners, share of tasks",
                "more than 2.9 points, all gains 2.9",
            ),
            found,
            strict=True,
        ):
            yield measure, "3 findings, 30%", seeds, variance, value
    for gain, seeds in itertools.product(GAINS, SEEDS):
        found = share(_pair_row, "3 findings, 30%", seeds, 1, gain)[0]
        yield f"power, {100 * gain:.0f} points", "3 findings, 30%", seeds, 1, found
    for name, auroc in itertools.product(PREVALENCES, (0.6, 0.75, 0.9, 0.97)):
        yield f"coverage, mean AUROC {auroc}", name, "", "", share(_interval_row, name, auroc)[0]
    for positives, auroc in itertools.product((2, 5, 10, 30), (0.6, 0.75, 0.9, 0.97)):
        covered = share(_positives_row, positives, auroc)[0]
        yield f"coverage, AUROC {auroc}", f"{positives} positives", "", "", covered


def main() -> None:
    """Write the table as CSV, and print it row by row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    with given.out.open("w", newline="") as stream, ProcessPoolExecutor(given.jobs) as pool:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        for *names, value in rows(given.simulations, pool):
            writer.writerow([*names, f"{value:.4f}", given.simulations])
            stream.flush()
            print(*names, f"{value:.3f}", flush=True)


if __name__ == "__main__":
    main()
