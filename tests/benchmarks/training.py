"""Runs, training steps and growth against their baselines: ``python -m core bench``.

Run with ``python -m tests.benchmarks.training``; it takes the same options, and by default writes
its figures to ``tests/benchmarks/results/DEVICE.json``.
"""

import sys
from pathlib import Path

import torch

from core.cli.app import app

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Measure all, or what the options say."""
    given = sys.argv[1:]
    if "--out" not in given:
        kind = "gpu" if torch.cuda.is_available() else "cpu"
        given = [*given, "--out", str(RESULTS / f"{kind}.json")]
    app(["bench", *given])


if __name__ == "__main__":
    main()
