"""Peak memory of whole runs, compared with the prediction.

Run with ``python -m tests.benchmarks.memory``; it takes some fifteen minutes on two cores. Each run
has a process of its own and trains two batches or more from random weights, which hold as much as
others. On a GPU it is the GPU's memory that is measured.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from core.benchmarks.measurement import device_name, in_new_process

TINY, SMALL, BASE = (f"timm:vit_{one}_patch16_224" for one in ("tiny", "small", "base"))
AGAIN, PARTS = {"train.activation_checkpointing": True}, {"train.accumulation": 4}


@dataclass(frozen=True)
class Case:
    """A run whose memory is measured.

    Attributes:
        backbone: Its name.
        method: The method's.
        batch: Images per step.
        more: Other settings, by dotted name.
    """

    backbone: str
    method: str
    batch: int
    more: dict[str, Any] = field(default_factory=dict)


CASES = (
    Case(TINY, "full", 32),
    Case(TINY, "lora", 32),
    Case(TINY, "linear", 32),
    Case(TINY, "full", 64, {"train.precision": "fp32"}),
    Case(SMALL, "full", 32),
    Case(SMALL, "lora", 64),
    Case(SMALL, "lora", 64, AGAIN),
    Case(SMALL, "full", 64, PARTS),
    Case("timm:resnet50", "full", 32),
    Case(BASE, "full", 64),
    Case(BASE, "lora", 64),
    Case(BASE, "full", 64, AGAIN),
    Case(BASE, "lora", 64, AGAIN),
)


def measured(case: Case) -> dict[str, int]:
    """Train a run; returns its peak memory and the predicted one, in bytes."""
    from core.config.run import RunSpec
    from core.data.phantoms import dataset
    from core.reporter import NullReporter
    from core.training.loop import fine_tune

    sizes = {"train": 2 * case.batch, "val": 64, "test": 64, "size": 64}
    dataset.Phantom.__init__.__kwdefaults__.update(sizes)
    spec = RunSpec.of(**{
        "data.name": "phantom-5", "data.label_fraction": 1.0, "model.backbone": case.backbone,
        "model.pretrained": False, "adapter.method": case.method, "train.epochs": 1,
        "train.batch_size": case.batch, "train.augmentation": "crop-flip", **case.more,
    })  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        result = fine_tune(spec, Path(folder) / "run", Path(folder) / "cache", NullReporter())
    key = "peak_device_bytes" if result["device"].startswith("cuda") else "peak_host_bytes"
    return {"measured": result[key], "predicted": result["predicted_bytes"]}


def main() -> None:
    """Print a line of JSON a run, and then how far the predictions are off."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--only", default="", help="runs whose backbone has this in its name")
    asked = arguments.parse_args()
    off = []
    for case in CASES:
        if asked.only not in case.backbone:
            continue
        found = in_new_process(measured, case)
        off.append(100 * (found["predicted"] / found["measured"] - 1))
        names = {"backbone": case.backbone, "method": case.method, "batch": case.batch}
        print(json.dumps({**names, **case.more, **found, "off": f"{off[-1]:+.1f}%"}), flush=True)
    print(json.dumps({
        "device": device_name(), "torch": torch.__version__, "runs": len(off),
        "off": [f"{one:+.1f}%" for one in (min(off), max(off))],
    }, indent=2))  # fmt: skip


if __name__ == "__main__":
    main()
