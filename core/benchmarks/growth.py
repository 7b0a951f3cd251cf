"""Growth of the cost with the number of images, findings and pixels."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from core.benchmarks.measurement import (
    REPEATS,
    Row,
    device_name,
    in_new_process,
    median,
    peak_bytes,
    repeated,
)
from core.benchmarks.training_step import Case, ours

IMAGES = (1_000, 10_000, 99_999)
FINDINGS = (1, 14, 100)
STUDIES = 1_000
PIXELS = (224, 518)
PATCHES_OF_14 = "timm:vit_small_patch14_dinov2"


def images(count: int) -> dict[str, Any]:
    """Open a data set of ``count`` studies, draw the labelled subset and order an epoch; no pixels.

    Returns:
        ``seconds`` and the process's ``peak_bytes``.
    """
    from core.data import splits
    from core.data.phantoms.dataset import Phantom
    from core.training.batches import batches

    started = time.perf_counter()
    dataset = Phantom("phantom-14", train=count, val=1, test=1)
    batches(splits.subset(dataset, 1.0, 0), 64, 0, 0)
    return {"seconds": time.perf_counter() - started, "peak_bytes": peak_bytes()}


def findings(count: int) -> list[float]:
    """Seconds of the loss with its gradient, and of the AUROC, for ``count`` findings."""
    from core.metrics.auroc import per_finding
    from core.training.loss import masked_loss

    random = np.random.default_rng(0)
    labels = random.integers(0, 2, (STUDIES, count)).astype(np.float32)
    logits = random.normal(size=labels.shape).astype(np.float32)

    def work() -> None:
        tensor = torch.from_numpy(logits).requires_grad_()
        masked_loss(tensor, torch.from_numpy(labels)).backward()  # type: ignore[no-untyped-call]
        per_finding(labels, logits)

    return repeated(work)


def rows(counts: tuple[int, ...] = IMAGES, pixels: bool = True) -> list[Row]:
    """Compare the cost of a larger task with the cost of growth in proportion, the baseline."""
    table = []
    seen = {count: [in_new_process(images, count) for _ in range(REPEATS)] for count in counts}
    least = counts[0]
    start, _ = median([result["seconds"] for result in seen[least]])
    for count in counts[1:]:
        spent, spread = median([result["seconds"] for result in seen[count]])
        more = {
            "spread": spread,
            "peak_bytes": median([result["peak_bytes"] for result in seen[count]])[0],
            "peak_bytes_of_the_least": median([result["peak_bytes"] for result in seen[least]])[0],
        }
        name = f"growth/images/{least}-{count}"
        table.append(Row(name, spent, start * count / least, "s", device_name(), more=more))
    first, _ = median(findings(FINDINGS[0]))
    for count in FINDINGS[1:]:
        spent, spread = median(findings(count))
        name = f"growth/findings/{FINDINGS[0]}-{count}"
        more = {"spread": [1e3 * value for value in spread]}
        table.append(Row(name, 1e3 * spent, 1e3 * first * count, "ms", device_name(), more=more))
    if pixels:
        each = {side: in_new_process(ours, Case(PATCHES_OF_14, "lora", 4, side)) for side in PIXELS}
        small, large = (each[side] for side in PIXELS)
        spent, spread = median(large["seconds"])
        expected = median(small["seconds"])[0] * large["operations"] / small["operations"]
        more = {"spread": spread, "peak_bytes": large["peak_bytes"]}
        name = f"growth/pixels/{PIXELS[0]}-{PIXELS[1]}"
        table.append(Row(name, spent, expected, "s", device_name(), more=more))
    return table
