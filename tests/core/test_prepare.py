"""Pictures are made once, before the run that needs them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from core.prepare import prepare
from core.spec import RunSpec

ROOT = Path(__file__).parents[2]


def test_the_second_time_there_is_nothing_to_make(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 160, 150), np.uint8)
    for i, one in enumerate(pixels):
        place = tmp_path / "data" / ("NORMAL" if i % 2 else "PNEUMONIA")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(one).save(place / f"{i}.png")
    spec = RunSpec.of(
        **{"data.name": "folder", "data.root": tmp_path / "data", "data.label_fraction": 1.0}
    )
    told: list[tuple[int, int]] = []
    first = prepare(spec, tmp_path / "cache", lambda done, total: told.append((done, total)))
    assert first == {"pictures": 40, "made": 40}
    assert told[-1] == (40, 40)
    assert prepare(spec, tmp_path / "cache") == {"pictures": 40, "made": 0}


def test_preparing_loads_no_torch() -> None:
    """It takes half a gigabyte, and pictures are made without it."""
    code = "import sys; import core.prepare; print('torch' in sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "False"
