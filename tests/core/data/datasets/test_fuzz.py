"""Damaged files are read or refused in words: no crash, no hang, nothing touched elsewhere.

``CXR_FUZZ=20`` tries twenty times as many files, and ``CXR_FUZZ_SEED`` others.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

TIMES = int(os.environ.get("CXR_FUZZ", "1"))
SEED = os.environ.get("CXR_FUZZ_SEED", "0")

FILES = {"png": 600, "jpeg": 500, "dicom": 500, "npz": 300, "tables": 300}


def test_there_are_at_least_two_thousand_files() -> None:
    assert sum(FILES.values()) >= 2_000


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(FILES))
def test_damaged_files_are_read_or_rejected_with_an_explanation(kind: str, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    count = FILES[kind] * TIMES
    program = ROOT / "tests" / "support" / "mutations.py"
    done = subprocess.run(
        [sys.executable, str(program), kind, str(count), SEED, str(place)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=300 + count,
    )  # fmt: skip
    assert done.returncode == 0, f"it crashed or hung:\n{done.stderr[-3000:]}"
    found = json.loads(done.stdout)
    assert not found["faults"], "\n".join(found["faults"])
    assert found["read"] + found["refused"] == count
    assert found["read"] > count / 50, "nearly nothing is read: the damage is too coarse"
    assert found["refused"] > count / 50, "nearly nothing is refused: the damage is too small"
