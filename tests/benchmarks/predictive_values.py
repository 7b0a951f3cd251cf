"""How often the intervals of PPV and NPV hold the truth.

``python -m tests.benchmarks.predictive_values`` takes about a minute. The errors and the labels of
the studies of a simulated patient are correlated.
"""

import itertools
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from core.metrics.intervals import OperatingPoint
from core.metrics.operating_point import at_threshold, predictive_values
from core.metrics.predictive_values import predictive_value_intervals

QUANTILE = NormalDist().inv_cdf
SIMULATIONS = 1000
STATED = 0.02
"""The stated prevalence."""


@dataclass(frozen=True)
class Setting:
    """Studies of simulated patients.

    Attributes:
        patients: Number of patients.
        studies: Studies of each patient.
        correlation: Correlation of the errors of a patient's studies, and of their labels.
        prevalence: Share of studies with the finding.
        point: True sensitivity and specificity at the threshold 0.
    """

    patients: int
    studies: int
    correlation: float
    prevalence: float
    point: OperatingPoint

    def draw(self, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Labels, scores and patients of one sample."""
        patients = np.repeat(np.arange(self.patients), self.studies)
        habits = generator.normal(size=(2, self.patients))[:, patients]
        own = generator.normal(size=(2, len(patients)))
        labels, errors = np.sqrt(self.correlation) * habits + np.sqrt(1 - self.correlation) * own
        ill = labels > QUANTILE(1 - self.prevalence)
        mean = np.where(ill, QUANTILE(self.point.sensitivity), -QUANTILE(self.point.specificity))
        return ill.astype(float), mean + errors, patients


SETTINGS = [
    Setting(patients, studies, correlation, prevalence, OperatingPoint(0.0, *point))
    for (patients, studies, correlation), prevalence, point in itertools.product(
        ((200, 1, 0.0), (100, 4, 0.5), (50, 4, 0.9)), (0.05, 0.3), ((0.8, 0.8), (0.9, 0.95))
    )
] + [Setting(100, 1, 0.0, 0.05, OperatingPoint(0.0, 0.9, 0.95))]


def coverage(setting: Setting, simulations: int, *, clustered: bool = True) -> dict[str, float]:
    """Share of the intervals that hold the truth; those that are not defined are left out.

    Args:
        setting: How studies are drawn.
        simulations: Number of samples.
        clustered: Whether the intervals know which studies belong to one patient.
    """
    generator, held = np.random.default_rng(0), dict[str, list[bool]]()
    for _ in range(simulations):
        labels, scores, patients = setting.draw(generator)
        point = at_threshold(labels, scores, 0.0)
        for stated in (None, STATED):
            truth = predictive_values(setting.point, stated or setting.prevalence)
            intervals = predictive_value_intervals(
                labels, scores, point, stated, patients if clustered else None
            )
            for name, true, interval in zip(("PPV", "NPV"), truth, intervals, strict=True):
                if interval.low == interval.low:
                    key = f"{name} at {stated:.0%}" if stated else name
                    held.setdefault(key, []).append(interval.low <= true <= interval.high)
    return {name: float(np.mean(inside)) for name, inside in held.items()}


def main() -> None:
    """Print the coverage in each setting."""
    for setting in SETTINGS:
        about = (
            f"{setting.patients} patients, {setting.studies} studies each, correlation "
            f"{setting.correlation}, prevalence {setting.prevalence:.0%}, sensitivity "
            f"{setting.point.sensitivity}, specificity {setting.point.specificity}"
        )
        print(about)
        for clustered in (True, False) if setting.studies > 1 else (True,):
            found = coverage(setting, SIMULATIONS, clustered=clustered)
            cells = "  ".join(f"{name} {share:.3f}" for name, share in found.items())
            print(
                f"  {'over patients' if clustered else 'studies independent'}: {cells}", flush=True
            )


if __name__ == "__main__":
    main()
