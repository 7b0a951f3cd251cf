"""AUROC parity: the best AUROC of the same task by this software and by the baselines."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from core.benchmarks import png_folder, whole_run
from core.benchmarks.measurement import REPEATS, Row, device_name, in_new_process
from core.benchmarks.png_folder import Shape
from core.metrics.seed_tests import seeds_paired

TASK = Shape(train=400, val=300, epochs=8, side=256, size=128, batch=16, lr=2e-3)
"""Small enough for several seeds, and long enough for every side to learn something."""


def rows(task: Shape = TASK, seeds: int = REPEATS) -> list[Row]:
    """Compare the mean best validation AUROC with that of each baseline.

    The images are the same in all runs; the seed determines the new weights, the order and the
    crops. All sides validate after every epoch: this task is so small that a budget would allow it
    anyway (``tests.benchmarks.validation`` measures validation by budget).

    Returns:
        A row per baseline; ``difference_spread`` is the 95% interval of ours − baseline over the
        seeds.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "png"
        png_folder.write(root, task)
        shapes = [replace(task, seed=seed) for seed in range(seeds)]

        def each(side: Any) -> list[float]:
            return [in_new_process(side, root, shape)["auroc"] for shape in shapes]

        ours = each(whole_run.train)
        baselines = {name: each(side) for name, side in whole_run.BASELINES.items()}
    return [_row(f"auroc/{name}", ours, baseline) for name, baseline in baselines.items()]


def _row(name: str, ours: list[float], baseline: list[float]) -> Row:
    difference = seeds_paired(ours, baseline).difference
    more = {
        "spread": (min(ours), max(ours)),
        "baseline_spread": (min(baseline), max(baseline)),
        "difference_spread": (difference.low, difference.high),
        "each": ours,
        "baseline_each": baseline,
    }
    means = sum(ours) / len(ours), sum(baseline) / len(baseline)
    return Row(name, *means, "AUROC", device_name(), "higher", more)
