"""Time and memory of a check without decoding, on an NIH table of 100,000 rows.

Run with ``OMP_NUM_THREADS=1 python -m tests.benchmarks.checking``. The aims are 20 s and 1 GB.
"""

import json
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from core.data import findings
from core.data.checks.check import check
from core.data.datasets.registry import open_dataset

ROWS = 100_000
HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
LINKS = 20_000
"""Hard links per file; file systems have limits."""


def write(root: Path) -> None:
    """A table, lists, boxes and images (one small file under many names)."""
    random = np.random.default_rng(0)
    folder = root / "images"
    folder.mkdir(parents=True)
    patients = np.sort(random.integers(1, 30_000, ROWS))
    lines = [HEADER]
    names = [f"{patient:08d}_{row % 1000:03d}_{row}.png" for row, patient in enumerate(patients)]
    for row, (name, patient) in enumerate(zip(names, patients, strict=True)):
        marked = random.choice(findings.NIH, random.integers(0, 4), replace=False)
        text = "|".join(marked) or "No Finding"
        lines.append(f"{name},{text},0,{patient},{20 + row % 60},{'MF'[row % 2]},PA,1,1,0.1,0.1")
        if row % LINKS == 0:
            source = folder / name
            Image.new("L", (16, 16), 9).save(source)
        else:
            (folder / name).hardlink_to(source)
    (root / "Data_Entry_2017_v2020.csv").write_text("\n".join(lines))
    (root / "train_val_list.txt").write_text("\n".join(names[: ROWS * 3 // 4]))
    (root / "test_list.txt").write_text("\n".join(names[ROWS * 3 // 4 :]))


def main() -> None:
    """Print time, peak memory and the problems as JSON."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "nih"
        write(root)
        started = time.perf_counter()
        report = check(lambda: open_dataset("nih", root), pixels=False)
        print(json.dumps({
            "cores": os.cpu_count(),
            "rows": report.images,
            "seconds": round(time.perf_counter() - started, 2),
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            "faults": [problem.cause for problem in report.problems],
        }, indent=2))  # fmt: skip


if __name__ == "__main__":
    main()
