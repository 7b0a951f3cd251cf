"""Time of the statistics on a test split as large as NIH ChestX-ray14's, on one core.

Run with ``OMP_NUM_THREADS=1 python -m tests.benchmarks.statistics``. The aims are 5 s for 2,000
draws, and an AUROC per finding that does not show in an epoch.
"""

import json
import os
import time
from collections.abc import Callable

import numpy as np

from core.metrics import bootstrap
from core.metrics.auroc import per_finding

STUDIES, FINDINGS, PATIENTS, VALIDATION = 22_433, 14, 2_797, 11_219


def seconds(work: Callable[[], object], times: int = 3) -> float:
    """The fastest of several times, in seconds of processor time."""
    found = []
    for _ in range(times):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return round(min(found), 3)


def main() -> None:
    """Print the times as JSON."""
    generator = np.random.default_rng(0)
    labels = (generator.random((STUDIES, FINDINGS)) < 0.05).astype(np.float32)
    scores = (labels + generator.normal(size=labels.shape)).astype(np.float32)
    other = scores + 0.1 * generator.normal(size=labels.shape).astype(np.float32)
    patients = generator.integers(0, PATIENTS, STUDIES)
    print(json.dumps({
        "cores": os.cpu_count(),
        "per_finding of 11,219 × 14": seconds(
            lambda: per_finding(labels[:VALIDATION], scores[:VALIDATION])
        ),
        "bootstrap_macro of 22,433 × 14, 2,000 draws": seconds(
            lambda: bootstrap.bootstrap_macro(labels, scores, patients), 1
        ),
        "paired_bootstrap of 22,433 × 14, 2,000 draws": seconds(
            lambda: bootstrap.paired_bootstrap(labels, scores, other, patients), 1
        ),
    }, indent=2))  # fmt: skip


if __name__ == "__main__":
    main()
