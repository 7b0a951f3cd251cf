"""Runs' predictions as training writes them, with a quality that is known."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

FINDINGS = ("Effusion", "Mass", "Hernia")
Predict = Callable[..., Path]


@pytest.fixture
def predict(tmp_path: Path) -> Predict:
    """Write ``predictions/val.npz`` and ``test.npz`` of one run and return its folder.

    ``skill`` is the distance of the classes in standard deviations; ``seed`` draws the noise;
    studies, labels and patients are the same for all runs. No study has Hernia.
    """

    def write(
        name: str,
        skill: float,
        seed: int = 0,
        studies: int = 400,
        splits: tuple[str, ...] = ("val", "test"),
    ) -> Path:
        folder = tmp_path / name
        (folder / "predictions").mkdir(parents=True)
        for split in splits:
            fixed = np.random.default_rng(len(split))
            patients = fixed.integers(0, studies // 2, studies)
            labels = (fixed.random((studies, 3)) < (0.3, 0.15, 0)).astype(np.float32)
            hard = fixed.normal(size=labels.shape)
            noise = np.random.default_rng(seed).normal(size=labels.shape)
            logits = skill * labels + hard + 0.3 * noise - 1
            order = np.random.default_rng(seed + 1).permutation(studies)
            np.savez_compressed(
                folder / "predictions" / f"{split}.npz",
                ids=np.array([f"{split}-{i:04d}" for i in order]),
                patients=np.array([f"P{patients[i]:04d}" for i in order]),
                findings=np.array(FINDINGS),
                labels=labels[order],
                scores=(1 / (1 + np.exp(-logits[order]))).astype(np.float32),
            )
        return folder

    return write
