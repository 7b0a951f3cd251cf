"""The linear probe on features that hold a label, and on features that do not."""

from __future__ import annotations

import numpy as np
import torch

from core.pretraining.linear_probe import linear_probe


def test_the_probe_reads_what_is_there() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random((240, 1)) < 0.5).astype(np.float32)
    pictures = np.clip(
        rng.normal(100, 20, (240, 36, 36)) + 60 * labels[:, :, None] * (np.arange(36) < 12), 0, 255
    ).astype(np.uint8)
    probe = linear_probe(
        (pictures[:160], labels[:160]), (pictures[160:], labels[160:]), input_size=32
    )
    shuffled = linear_probe(
        (pictures[:160], rng.permutation(labels[:160])),
        (pictures[160:], labels[160:]),
        input_size=32,
    )
    flat = torch.nn.Flatten()
    assert probe(flat) > 0.95
    assert shuffled(flat) < 0.75
