"""Whether validation by budget chooses epochs as good as the paper's way, and what it saves.

Run with ``OMP_NUM_THREADS=1 python -m tests.benchmarks.validation --seeds 10``, half an hour: LoRA
on the embedded backbone, in each epoch of which the paper's way validates four times as many
images as are trained on. Each seed draws its own labelled subset and trains once; validation
changes nothing in training, so that both ways are followed side by side. Compared is the AUROC on
the whole validation split of the epoch that each way chose, in points (hundredths).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from core.config.run import ResolvedSpec, RunSpec
from core.data.phantoms import dataset
from core.metrics.auroc import macro, per_finding
from core.reporter import MEAN_AUROC, PART_AUROC, NullReporter
from core.resources.validation_schedule import STEP_PASSES
from core.training import prepare, validation
from core.training.loop import train_epoch
from core.training.setup import setup

TRAIN, VALIDATION, TEST = 4_000, 1_600, 16
FRACTION, EPOCHS, SIDE = 0.1, 20, 48
IMAGE_SIDE = 64
LIMIT = 0.2
"""Points that the mean over the seeds may lie below the paper's way."""


class Names(NullReporter):
    """A reporter that records the names of the values."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def metric(self, name: str, value: float, *, epoch: float, step: int) -> None:
        """Keep the name."""
        self.names.append(name)


def specification(name: str, seed: int, epochs: int) -> ResolvedSpec:
    """The run of one seed."""
    return RunSpec.of(
        **{
            "data.name": name, "data.label_fraction": FRACTION, "model.input_size": SIDE,
            "train.epochs": epochs, "train.seed": seed, "train.validation": "budget",
            "train.device": "cpu", "train.precision": "auto",
        }
    ).resolved()  # fmt: skip


def both_ways(spec: ResolvedSpec, folder: Path, cache: Path) -> dict[str, Any]:
    """Train once; what each way chose and how many studies it predicted."""
    names = Names()
    session = setup(spec, folder, cache, names)
    prepare.prepare(session, "train", "val")
    budget = validation.budget(session)
    assert budget is not None
    ids, train_ids = session.ids["val"], session.ids["train"]
    truth = session.dataset.labels(ids)
    labels = dict(zip(train_ids, session.dataset.labels(train_ids), strict=True))
    each: list[float] = []
    while session.position.epoch < spec.train.epochs:
        train_epoch(session, labels)
        validation.validate(session, budget)
        each.append(macro(per_finding(truth, validation.predict(session, ids))))
    scores = Counter(names.names)
    position = session.position
    assert position.best_auroc is not None
    best = max(each)
    part, middle = len(budget.part), budget.rounds.middle
    assert scores[PART_AUROC] == math.ceil(spec.train.epochs / budget.rounds.every)
    assert scores[MEAN_AUROC] == budget.rounds.full
    studies = budget.rounds.studies(spec.train.epochs, len(ids))
    work = STEP_PASSES * len(labels) * spec.train.epochs
    return {
        "lost": round(100 * (best - position.best_auroc), 3),
        "every-epoch": {"epoch": each.index(best) + 1, "auroc": round(best, 5)},
        "budget": {"epoch": position.best_epoch, "auroc": round(position.best_auroc, 5)},
        "images": len(labels), "part": part, "parts": scores[PART_AUROC],
        "middle": [[one.epochs, one.studies] for one in middle],
        "wholes": scores[MEAN_AUROC], "studies": studies, "of": len(ids) * spec.train.epochs,
        "share": round(studies / (studies + work), 3),
    }  # fmt: skip


def main() -> None:
    """Print what each seed chose as JSON; exit 1 if the mean is off by more than the limit."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seeds", type=int, default=10)
    arguments.add_argument("--first", type=int, default=0, help="the first seed")
    arguments.add_argument("--epochs", type=int, default=EPOCHS)
    arguments.add_argument("--data", default="phantom-5", choices=["phantom-14", "phantom-5"])
    asked = arguments.parse_args()
    sizes = {"train": TRAIN, "val": VALIDATION, "test": TEST, "size": IMAGE_SIDE}
    dataset.Phantom.__init__.__kwdefaults__.update(sizes)
    found: list[dict[str, Any]] = []
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        for seed in range(asked.first, asked.first + asked.seeds):
            folder = Path(place) / str(seed)
            folder.mkdir()
            one = both_ways(
                specification(asked.data, seed, asked.epochs), folder, Path(place) / "cache"
            )
            found.append({"seed": seed, **one})
            print(json.dumps(found[-1]), flush=True)
    losses = [one["lost"] for one in found]
    print(json.dumps({
        "data": asked.data, "validation": VALIDATION, "epochs": asked.epochs, "side": SIDE,
        "seeds": asked.seeds, "cores": os.cpu_count(), "torch": torch.__version__,
        "points lost": {"mean": round(statistics.fmean(losses), 3), "most": max(losses)},
        "studies validated": round(statistics.fmean(one["studies"] for one in found)),
        "studies validated every epoch": VALIDATION * asked.epochs,
        "share of the work": round(statistics.fmean(one["share"] for one in found), 3),
        "seconds": round(time.perf_counter() - began),
    }, indent=2))  # fmt: skip
    raise SystemExit(statistics.fmean(losses) > LIMIT)


if __name__ == "__main__":
    main()
