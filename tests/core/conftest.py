"""Runs' predictions with a quality that is known, and radiographs that a tiny run learns from."""

import csv
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from core.config.run import RunSpec
from core.data.phantoms.dataset import Phantom
from tests.support.programs import Answer, Cli

FINDINGS = ("Effusion", "Mass", "Hernia")
Predict = Callable[..., Path]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Cli:
    """Run the command line in this process, where torch is loaded already."""

    def call(*words: object) -> Answer:
        from core.cli.app import main

        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["core", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return Answer(end.value.code if isinstance(end.value.code, int) else 0, out, err)

    return call


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


SIDE = 64
STUDIES = {"train": 40, "val": 12, "test": 16}
Tiny = Callable[..., RunSpec]


@pytest.fixture(scope="session")
def radiographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 68 small phantoms with a table of labels; tests must not change it.

    Half of them have pneumonia. Half have a bright plate in a corner, which any network can learn;
    whether the first of each split has one is not known.
    """
    root = tmp_path_factory.mktemp("radiographs")
    drawn = Phantom("phantom-1", train=200, val=100, test=100, size=SIDE)
    rows = []
    for split, count in STUDIES.items():
        ill = drawn.table["Pneumonia"].loc[drawn.ids(split)]
        both = zip(ill.index[ill == 1], ill.index[ill == 0], strict=False)
        chosen = [one for pair in both for one in pair][:count]
        assert len(chosen) == count
        for i, one in enumerate(chosen):
            pixels, plate = drawn.read(str(one)).copy(), i // 2 % 2
            if plate:
                pixels[:32, :32] = 255
            name = f"{split}-{i:02d}.png"
            Image.fromarray(pixels).save(root / name)
            rows.append((name, f"{split}{i // 2}", split, int(ill[one]), plate if i else ""))
    with (root / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "patient", "split", "Pneumonia", "Plate"), *rows])
    return root


@pytest.fixture
def tiny(radiographs: Path) -> Tiny:
    """A run of a second on these radiographs; any ``section__field`` can be changed."""

    def make(**changes: Any) -> RunSpec:
        fields = {
            "data__name": "folder",
            "data__root": radiographs,
            "data__label_fraction": 1.0,
            "model__backbone": "timm:test_vit",
            "model__pretrained": False,
            "model__input_size": SIDE,
            "train__epochs": 2,
            "train__batch_size": 16,
            "train__device": "cpu",
        }
        return RunSpec.of(
            **{name.replace("__", "."): value for name, value in (fields | changes).items()}
        )

    return make
