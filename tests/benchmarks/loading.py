"""An epoch over the cache compared with a conventional loader, and the cost of building the cache.

Run with ``python -m tests.benchmarks.loading``; it takes some minutes. The aims: an epoch at least
25 times as fast per core as decoding 1024 px PNG files in a DataLoader with as many workers;
building within 1.2 times the time that decoding takes on all cores; less than 1 GB of memory.

The images are phantoms, enlarged to 1024 px, with noise that gives their PNG files the size of
NIH ChestX-ray14's (400 kB on average). Alternatives are timed in turns, since other programs may be
running; processor time, which they disturb less, is reported in addition to wall-clock time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from core.data.cache.image_cache import ImageCache, cache_side
from core.data.datasets.registry import open_dataset
from core.data.phantoms.dataset import Phantom
from core.data.transforms import EvalTransform, TrainTransform
from core.training.batches import batches, one_ahead
from core.training.inputs import PixelInputs

SIDE, INPUT, BATCH, DISTINCT = 1024, 224, 64, 64
MEAN, STD = 0.5056, 0.252
NOISE = 1.0
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def write(root: Path, count: int, dicom: bool) -> None:
    """A folder of two classes; beyond ``DISTINCT``, files are links to the first ones."""
    drawn = Phantom("phantom-1", train=DISTINCT, val=1, test=1)
    random = np.random.default_rng(0)
    first: list[Path] = []
    for number in range(count):
        suffix = "dcm" if dicom else "png"
        file = root / ("Pneumonia" if number % 2 else "normal") / f"{number:05d}.{suffix}"
        file.parent.mkdir(parents=True, exist_ok=True)
        if number >= DISTINCT:
            file.hardlink_to(first[number % DISTINCT])
            continue
        small = Image.fromarray(drawn.read(drawn.ids("train")[number]))
        large = np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.float32)
        noisy = np.clip(large + random.normal(0, NOISE, large.shape), 0, 255).astype(np.uint8)
        if dicom:
            write_dicom(file, noisy)
        else:
            Image.fromarray(noisy).save(file)
        first.append(file)


def write_dicom(file: Path, pixels: Any) -> None:
    """A JPEG DICOM file as in RSNA's challenge."""
    import io

    import pydicom
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGBaseline8Bit, SecondaryCaptureImageStorage, generate_uid

    packed = io.BytesIO()
    Image.fromarray(pixels).save(packed, "JPEG", quality=90)
    made = pydicom.Dataset()
    made.file_meta = pydicom.dataset.FileMetaDataset()
    made.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    made.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    made.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    made.Rows, made.Columns, made.SamplesPerPixel = *pixels.shape, 1
    made.PhotometricInterpretation, made.PixelRepresentation = "MONOCHROME2", 0
    made.BitsAllocated = made.BitsStored = 8
    made.HighBit = 7
    made.PixelData = encapsulate([packed.getvalue()])
    made["PixelData"].VR = "OB"
    made.save_as(file, enforce_file_format=True)


class Conventional(Dataset[torch.Tensor]):
    """Decodes each file in each epoch, as most public loaders do."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = files
        self.change = transforms.Compose([
            transforms.RandomResizedCrop(
                INPUT, interpolation=transforms.InterpolationMode.BICUBIC
            ),
            transforms.RandomHorizontalFlip(),
            transforms.Grayscale(3),
            transforms.ToTensor(),
            transforms.Normalize([MEAN] * 3, [STD] * 3),
        ])  # fmt: skip

    def __len__(self) -> int:
        """Number of images."""
        return len(self.files)

    def __getitem__(self, index: int) -> torch.Tensor:
        """One image of shape (3, 224, 224)."""
        with Image.open(self.files[index]) as opened:
            changed: torch.Tensor = self.change(opened.convert("L"))
        return changed


def processor_seconds() -> float:
    """Processor time of this process and its children, running or ended."""
    own = psutil.Process()
    total = sum(own.cpu_times()[:4])
    for child in own.children(recursive=True):
        try:
            total += sum(child.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue
    return float(total)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall-clock seconds, and processor seconds."""
    before, start = processor_seconds(), time.perf_counter()
    work()
    return time.perf_counter() - start, processor_seconds() - before


def epochs(root: Path, cache: ImageCache, repeats: int, passes: int) -> dict[str, Any]:
    """Time both loaders in turns, after one pass of each that is not counted."""
    dataset = cache.dataset
    ids = [str(one) for one in dataset.table.index]
    loader = DataLoader(
        Conventional([root / one for one in ids]),
        batch_size=BATCH, shuffle=True, num_workers=CORES, persistent_workers=True,
    )  # fmt: skip
    feed = PixelInputs(cache, TrainTransform(INPUT, MEAN, STD), EvalTransform(INPUT, MEAN, STD))

    def conventional() -> None:
        for batch in loader:
            assert batch.shape[1:] == (3, INPUT, INPUT)

    def ours() -> None:
        for epoch in range(passes):
            parts = batches(ids, BATCH, 0, epoch)

            def load(i: int, parts: list[list[str]] = parts) -> torch.Tensor:
                return feed.training(parts[i], torch.Generator().manual_seed(i))

            for _, batch in one_ahead(load, 0, len(parts)):
                assert feed.pixels(batch).shape[1:] == (3, INPUT, INPUT)

    conventional(), ours()
    measured = [(timed(conventional), timed(ours)) for _ in range(repeats)]
    for pair in measured:
        say(f"epoch: conventional {pair[0][0]:.2f} s, cache {pair[1][0] / passes:.3f} s")
    count = len(ids)
    clock = [(a[0] / count, b[0] / count / passes) for a, b in measured]
    busy = [(a[1] / count, b[1] / count / passes) for a, b in measured]
    return {
        "conventional, ms per image": middle([1e3 * a for a, _ in clock]),
        "from the cache, ms per image": middle([1e3 * b for _, b in clock]),
        "conventional, processor ms per image": middle([1e3 * a for a, _ in busy]),
        "from the cache, processor ms per image": middle([1e3 * b for _, b in busy]),
        "times as fast on the clock": middle([a / b for a, b in clock]),
        "times as fast per core": middle([a / b for a, b in busy]),
    }


DECODE = (
    "import sys; from core.data.images.reader import read_image\n"
    "for one in sys.argv[1:]: read_image(one)"
)

BUILD = (
    "import sys; from pathlib import Path; from core.data.cache.image_cache import ImageCache\n"
    "from core.data.datasets.registry import open_dataset\n"
    "dataset = open_dataset('folder', sys.argv[1])\n"
    "ImageCache(Path(sys.argv[2]), dataset, int(sys.argv[3])).ensure(list(dataset.table.index))"
)


def start(program: str, *words: str) -> subprocess.Popen[bytes]:
    """A Python process that runs a short program."""
    return subprocess.Popen([sys.executable, "-c", program, *words])


def building(root: Path, repeats: int) -> dict[str, Any]:
    """Time decoding alone on all cores, and building the cache, in turns."""
    dataset = open_dataset("folder", root)
    ids = [str(one) for one in dataset.table.index]
    files = [str(root / one) for one in ids]

    def alone() -> None:
        started = [start(DECODE, *files[core::CORES]) for core in range(CORES)]
        assert not any(one.wait() for one in started)

    def build() -> None:
        with tempfile.TemporaryDirectory() as folder:
            assert not start(BUILD, str(root), folder, str(cache_side(INPUT))).wait()

    pairs = []
    for _ in range(repeats):
        pairs.append((timed(alone), timed(build)))
        say(f"decoding alone {pairs[-1][0][0]:.2f} s, building {pairs[-1][1][0]:.2f} s")
    with Peak() as peak:
        build()
    return {
        "images": len(ids),
        "decoding alone, s": middle([a[0] for a, _ in pairs]),
        "building the cache, s": middle([b[0] for _, b in pairs]),
        "building over decoding, on the clock": middle([b[0] / a[0] for a, b in pairs]),
        "building over decoding, processor": middle([b[1] / a[1] for a, b in pairs]),
        "peak memory of building, MB": round(peak.most / 1e6),
    }


class Peak:
    """Measures the peak memory of this process's children."""

    def __init__(self) -> None:
        self.most = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        own = psutil.Process()
        while not self._over.wait(0.05):
            total = 0
            for child in own.children(recursive=True):
                try:
                    total += child.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            self.most = max(self.most, total)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def middle(values: Sequence[float]) -> float:
    """The median, to four digits."""
    return float(f"{statistics.median(values):.4g}")


def say(text: str) -> None:
    """Print progress to standard error."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true", help="Print one JSON value.")
    parser.add_argument("--images", type=int, default=1280)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=["epoch", "png", "dicom"], help="One of the three parts.")
    given = parser.parse_args()
    # As each worker of a DataLoader does; threads that wait for each other would cost time.
    torch.set_num_threads(1)
    found: dict[str, Any] = {
        "cores": CORES, "processor": platform.processor() or platform.machine(),
        "load before": round(os.getloadavg()[0], 2),
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        png, dicom = Path(place) / "png", Path(place) / "dicom"
        if given.only != "dicom":
            write(png, given.images, dicom=False)
            sizes = [file.stat().st_size for file in png.rglob("*.png")]
            found["kB per PNG file"] = round(sum(sizes) / len(sizes) / 1e3)
        if given.only in (None, "epoch"):
            dataset = open_dataset("folder", png)
            cache = ImageCache(Path(place) / "cache", dataset, cache_side(INPUT))
            cache.ensure([str(one) for one in dataset.table.index])
            found["an epoch"] = epochs(png, cache, given.repeats, passes=8)
        if given.only in (None, "png"):
            found["PNG"] = building(png, given.repeats)
        if given.only in (None, "dicom"):
            write(dicom, given.images, dicom=True)
            found["JPEG DICOM"] = building(dicom, given.repeats)
    if given.json:
        print(json.dumps(found, indent=2))
    else:
        for name, value in found.items():
            rows = value.items() if isinstance(value, dict) else [("", value)]
            for what, figure in rows:
                print(f"{name + ', ' + what if what else name:60} {figure}")


if __name__ == "__main__":
    main()
