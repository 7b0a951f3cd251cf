"""How cost grows with the number of images, findings and pixels."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from core.benchmarks.measurement import REPEATS, Row, apart, device, middle, peak_bytes, repeated
from core.benchmarks.training_step import Case, ours

IMAGES = (1_000, 10_000, 99_999)
FINDINGS = (1, 14, 100)
STUDIES = 1_000
PIXELS = (224, 518)
PATCHES_OF_14 = "timm:vit_small_patch14_dinov2"


def images(count: int) -> dict[str, Any]:
    """Open a set of so many studies, draw what is labelled, and order an epoch; no pixel is read.

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
    """Seconds of the loss with its gradient, and of the AUROC, for so many findings."""
    from core.metrics.auroc import per_finding
    from core.training.loss import masked_loss

    random = np.random.default_rng(0)
    labels = random.integers(0, 2, (STUDIES, count)).astype(np.float32)
    logits = random.normal(size=labels.shape).astype(np.float32)

    def work() -> None:
        taken = torch.from_numpy(logits).requires_grad_()
        masked_loss(taken, torch.from_numpy(labels)).backward()  # type: ignore[no-untyped-call]
        per_finding(labels, logits)

    return repeated(work)


def rows(counts: tuple[int, ...] = IMAGES, pixels: bool = True) -> list[Row]:
    """Ours is the cost of the larger work, the baseline what growth in proportion would cost."""
    found = []
    seen = {count: [apart(images, count) for _ in range(REPEATS)] for count in counts}
    least = counts[0]
    start, _ = middle([one["seconds"] for one in seen[least]])
    for count in counts[1:]:
        spent, spread = middle([one["seconds"] for one in seen[count]])
        told = {
            "spread": spread,
            "peak_bytes": middle([one["peak_bytes"] for one in seen[count]])[0],
            "peak_bytes_of_the_least": middle([one["peak_bytes"] for one in seen[least]])[0],
        }
        name = f"growth/images/{least}-{count}"
        found.append(Row(name, spent, start * count / least, "s", device(), more=told))
    first, _ = middle(findings(FINDINGS[0]))
    for count in FINDINGS[1:]:
        spent, spread = middle(findings(count))
        name = f"growth/findings/{FINDINGS[0]}-{count}"
        told = {"spread": [1e3 * one for one in spread]}
        found.append(Row(name, 1e3 * spent, 1e3 * first * count, "ms", device(), more=told))
    if pixels:
        each = {side: apart(ours, Case(PATCHES_OF_14, "lora", 4, side)) for side in PIXELS}
        small, large = (each[side] for side in PIXELS)
        spent, spread = middle(large["seconds"])
        expected = middle(small["seconds"])[0] * large["operations"] / small["operations"]
        told = {"spread": spread, "peak_bytes": large["peak_bytes"]}
        name = f"growth/pixels/{PIXELS[0]}-{PIXELS[1]}"
        found.append(Row(name, spent, expected, "s", device(), more=told))
    return found
