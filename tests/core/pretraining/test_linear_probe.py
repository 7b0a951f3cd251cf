"""The linear probe on features with and without information about the label."""

from __future__ import annotations

import numpy as np
import torch

from core.pretraining.linear_probe import linear_probe


def test_the_probe_finds_a_label_that_the_features_contain() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random((240, 1)) < 0.5).astype(np.float32)
    images = np.clip(
        rng.normal(100, 20, (240, 36, 36)) + 60 * labels[:, :, None] * (np.arange(36) < 12), 0, 255
    ).astype(np.uint8)
    probe = linear_probe((images[:160], labels[:160]), (images[160:], labels[160:]), input_size=32)
    shuffled = linear_probe(
        (images[:160], rng.permutation(labels[:160])), (images[160:], labels[160:]), input_size=32
    )
    flat = torch.nn.Flatten()
    assert probe(flat) > 0.95
    assert shuffled(flat) < 0.75
