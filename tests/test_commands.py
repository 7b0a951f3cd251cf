"""Runs every command of README and documentation on small data.

The words are those of the page. Placeholders (DIR, FILE, RUN, a file name) are replaced by small
test data, and options at the end shorten the work: less data, one epoch, smaller images. Set
``CXR_LONG=1`` to run it.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from core.cli.app import app
from core.config.run import RunSpec
from core.data.datasets import opened
from core.data.phantoms.dataset import Phantom
from core.errors import CoreError
from core.runs.store import open_store
from core.training.run_here import run_in_process
from core.workspace import BACKBONE_FILES, Workspace, open_workspace
from tests.support import layouts
from tests.test_documentation import COMMANDS

pytestmark = pytest.mark.skipif(
    not os.environ.get("CXR_LONG"), reason="runs about seventy commands: set CXR_LONG=1"
)

CORE = [
    words
    for _, command in COMMANDS
    if (words := shlex.split(command))[:3] == ["python", "-m", "core"] and "--store" not in words
]
PICTURES = {"train": 60, "val": 40, "test": 40, "size": 64}
SHORT = ["--epochs", "1", "--warmup-epochs", "0", "--input-size", "64", "--label-fraction", "1"]
HERE = ["--device", "cpu", "--precision", "fp32"]
TINY = ["--backbone", "embedded-mae"]
ENDINGS: dict[str, list[str]] = {
    "train": [*SHORT, *HERE],
    "submit": [*SHORT, *HERE],
    "pretrain": ["--images", "24", "--steps", "2", "--batch-size", "8"],
    "transfer": ["--seeds", "1", "--fractions", "1"],
    "sweep": ["--yes"],
    "tune": [*SHORT, *HERE, "--trials", "1", "--final-seeds", "1", "--yes"],
    "sweep --together": [*SHORT[:-2], *HERE, *TINY, "--fractions", "1", "--seeds", "0", "--yes"],
    "paper --embedded": ["--only", "rsna", "--fractions", "1"],
    "paper --only": ["--dry-run"],
    "serve": ["--until-idle"],
    "saliency-report": ["--studies", "2"],
}
QUEUED = ("submit", "sweep", "stop", "resume", "queue", "move", "after")
"""Commands that use the workspace whose queue is not served."""
REFUSES = {
    "models check rad-dino": "Give a checkpoint of the same architecture",
    "models check mrm": "Give a checkpoint of the same architecture",
    "serve --executor ray": "ray",
}
"""Messages of commands that are expected to fail: the file is of another network, there is no
cluster."""


@dataclass(frozen=True)
class Place:
    """The test data that replaces the placeholders.

    Attributes:
        root: Folder of the test data.
        done: Workspace with two completed runs.
        waiting: Workspace with two queued runs.
        runs: Names of the completed runs.
        queued: Ids of the queued runs.
        dirs: Folder by data set.
        dicom: A radiograph.
    """

    root: Path
    done: Workspace
    waiting: Workspace
    runs: list[str]
    queued: list[str]
    dirs: dict[str, Path]
    dicom: Path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    root = tmp_path_factory.mktemp("commands")
    sizes = Phantom.__init__.__kwdefaults__
    before = dict(sizes)
    sizes.update(PICTURES)
    opened._open.cache_clear()
    chests = Phantom("phantom-14", train=79, val=1, test=1, size=64)
    drawn = [chests.read(one) for one in chests.ids("train")]
    for write, name in ((layouts.nih, "nih"), (layouts.nih_paper, "paper")):
        files = write(root / name).files.values()
        for file, pixels in zip(files, drawn, strict=True):
            layouts.save(file, pixels)
    layouts.chestmnist(root / "chestmnist")
    _ward(root / "ward", drawn[:40])
    layouts.save_dicom(root / "radiograph.dcm", layouts.picture(3, 64, 64))
    done, waiting = open_workspace(root / "done"), open_workspace(root / "waiting")
    store = open_store(done, create=True)
    short = {"train.epochs": 1, "model.input_size": 64, "data.label_fraction": 1.0}
    runs = [
        run_in_process(RunSpec.of(**short, **{"adapter.method": method}), done).id
        for method in ("lora", "linear")
    ]
    store.close()
    for seed in ("0", "1"):
        command = ["submit", *SHORT, "--seed", seed, "--workspace", str(waiting.root)]
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, result.output
    store = open_store(waiting, create=False)
    queued = [run.id for run in store.list()]
    store.close()
    dirs = {name: root / name for name in ("nih", "paper", "chestmnist", "ward")}
    yield Place(root, done, waiting, runs, queued, dirs, root / "radiograph.dcm")
    sizes.clear()
    sizes.update(before)
    opened._open.cache_clear()


def _ward(root: Path, pictures: list[NDArray[np.uint8]]) -> None:
    """Write a folder of images whose file names contain the patient."""
    rows = ["path,Edema,Fracture"]
    for i, pixels in enumerate(pictures):
        name = f"P{i // 2:03d}-{i % 2}.png"
        layouts.save(root / name, pixels)
        rows.append(f"{name},{i // 2 % 2},{i // 4 % 2}")
    (root / "labels.csv").write_text("\n".join(rows))


def filled(words: list[str], place: Place) -> list[str]:
    """The words with test data in place of the placeholders."""
    verb = words[0]
    run, other = place.queued if verb in QUEUED else place.runs
    if verb in ("move", "after"):  # the first queued run may have been stopped
        run, other = other, run
    names = {"RUN": run, "OTHER": other, "radiograph.dcm": str(place.dicom)}
    names["FILE"] = names["MRM.pth"] = str(BACKBONE_FILES / "embedded-mae.safetensors")
    found = [names.get(one, one) for one in words]
    for i, one in enumerate(words):
        if "DIR" in one:
            name = "ward" if "folder" in words else "nih"
            if words[i - 1] == "--root-a" or ("paper" in words and verb != "data"):
                name = "paper"
            if words[i - 1] == "--root-b":
                name = "chestmnist"
            here = Path("out") if words[i - 1] == "--out" else place.dirs[name]
            found[i] = one.replace("DIR", str(here))
        elif one == "NIH_ChestX-ray/train_1.txt":
            found[i] = str(place.dirs["paper"] / "train_list.txt")
        elif words[i - 1] == "--labels" or one.startswith("(person"):
            found[i] = one.replace("(person", "(P").replace("Fx=", "Fracture=")
    if "--weights" in found and verb in ("train", "prepare", "sweep"):  # the file fits no other
        at = found.index("--weights")
        found[at : at + 2] = ["--no-pretrained"]
    return found


def ending(words: list[str]) -> list[str]:
    """Options that shorten a command's work."""
    return next(
        (more for start, more in ENDINGS.items() if words[: len(start.split())] == start.split()
         and " " in start),
        ENDINGS.get(words[0], []),
    )  # fmt: skip


def test_most_commands_of_the_pages_are_run() -> None:
    assert len(CORE) > 60


@pytest.mark.parametrize("words", CORE, ids=lambda words: " ".join(words[3:])[:90])
def test_a_command_works_as_written(
    words: list[str], place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = words[3:]
    command = [*filled(given, place), *ending(given)]
    monkeypatch.chdir(tmp_path)

    def invoke(*words: str) -> tuple[int, str]:
        home = place.waiting if words[0] in QUEUED else place.done
        env = {"CXR_WORKSPACE": str(home.root)}
        result = CliRunner().invoke(app, [*words], env=env, input="y\n")
        if isinstance(result.exception, CoreError):  # ``main`` prints it
            return 1, str(result.exception)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.output

    if given[0] == "resume":
        invoke("stop", place.queued[0])
    code, output = invoke(*command)
    starts = (start for start in REFUSES if " ".join(given).startswith(start))
    expected = REFUSES.get(next(starts, ""))
    assert (code == 0) is (expected is None), f"{shlex.join(command)}\n{output}"
    assert expected is None or expected.lower() in output.lower()
