"""A small custom folder, and the radiographs that the tests of the core train on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.core.conftest import radiographs

__all__ = ["own_folder", "radiographs"]


@pytest.fixture
def own_folder(tmp_path: Path) -> Path:
    """Thirty images of thirty patients, with a table of two findings."""
    root = tmp_path / "own"
    root.mkdir()
    rows = ["path,patient,split,Plate,Mass"]
    for i in range(30):
        noise = np.random.default_rng(i).integers(0, 256, (12, 12)).astype(np.uint8)
        grown = Image.fromarray(noise).resize((96, 96), Image.Resampling.BICUBIC)
        grown.save(root / f"{i:02d}.png")
        rows.append(f"{i:02d}.png,P{i},{('train', 'val', 'test')[i % 3]},{i // 3 % 2},{i % 2}")
    (root / "labels.csv").write_text("\n".join(rows))
    return root
