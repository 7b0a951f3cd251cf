"""What the Saliency page answers, above all to what cannot be answered: a sentence each."""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pydicom
import pytest
import torch
from PIL import Image

from core.config.run import RunSpec
from core.runs import queue, worker
from core.runs.store import Store, open_store
from core.training.loop import fine_tune
from core.workspace import BEST, Workspace, open_workspace
from explorer.components import study_views
from explorer.components.model_cache import ModelCache
from explorer.context import Context
from explorer.pages.saliency import download
from explorer.pages.saliency import view as viewing
from explorer.pages.saliency.uploads import Upload, Uploads
from explorer.pages.saliency.view import Question
from tests.support.layouts import save_dicom

SIDE = 64
STUDY = "test-01.png"


@dataclass
class Desk:
    """A workspace with two runs of a second on the same radiographs."""

    workspace: Workspace
    store: Store
    context: Context
    root: Path
    ids: list[str]
    shelf: ModelCache

    def ask(self, **changes: Any) -> tuple[dict[str, Any], str, str]:
        asked = Question(self.ids[0], self.ids[1:], STUDY, "Plate", "grad-cam", "", "")
        value, below, said, *_ = viewing.show(self.context, self.shelf, replace(asked, **changes))
        return json.loads(value), below, said


@pytest.fixture(scope="module")
def trained(radiographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    folder = tmp_path_factory.mktemp("viewing")
    root = shutil.copytree(radiographs, folder / "pictures")
    workspace = open_workspace(folder / "workspace")
    store = open_store(workspace, create=True)
    fields = {
        "data.name": "folder", "data.root": root, "data.label_fraction": 1.0,
        "model.backbone": "timm:test_vit", "model.pretrained": False, "model.input_size": SIDE,
        "train.epochs": 1, "train.device": "cpu",
    }  # fmt: skip

    def execute(spec: Any, folder: Any, cache: Any, report: Any, resume: Any) -> Any:
        return fine_tune(spec, folder, cache, report)

    ids = []
    for method in ("full", "linear"):
        run = queue.claim_here(store, RunSpec.of(**fields, **{"adapter.method": method}))
        assert worker.work(store, workspace, run.id, execute) == 0
        ids.append(run.id)
    with gr.Blocks() as blocks:
        context = Context(workspace, store, blocks, gr.Tabs(), {}, {})
    return Desk(workspace, store, context, root, ids, ModelCache(workspace, store))


@pytest.fixture
def desk(trained: Desk) -> Desk:
    """The same with models that were not touched yet."""
    return replace(trained, shelf=ModelCache(trained.workspace, trained.store))


def notes(value: dict[str, Any]) -> list[str]:
    return [" ".join(view["notes"]) for view in value["views"]]


def upload(tmp_path: Path, name: str, pixels: Any = None, **options: Any) -> Upload:
    path = tmp_path / name
    if path.suffix == ".dcm":
        save_dicom(path, pixels, **options)
    elif pixels is not None:
        Image.fromarray(pixels).save(path)
    return Uploads().take("session", path)


def test_a_study_under_two_runs_with_their_difference(desk: Desk) -> None:
    value, below, said = desk.ask(apart=" ".join(desk.ids))
    assert said == ""
    assert [bool(view["map"]) for view in value["views"]][:3] == [False, True, True]
    apart = value["views"][3]
    assert " − " in apart["title"]
    assert "called" in str(value["views"][1]["facts"])
    assert "Plate" in below
    assert apart["map"] is None or apart["map"]["signed"]


def test_runs_shown_together_are_called_by_what_differs(desk: Desk) -> None:
    runs = [desk.store.get(one) for one in desk.ids]
    short = study_views.titles(runs)
    assert len(set(short)) == 2
    assert all(one in run.name and " · " not in one for one, run in zip(short, runs, strict=True))
    assert study_views.titles(runs[:1]) == [runs[0].name]
    alike = study_views.titles([runs[0], replace(runs[1], name=runs[0].name)])
    assert len(set(alike)) == 2


def test_a_finding_the_model_has_not(desk: Desk) -> None:
    value, _, _ = desk.ask(finding="Hernia")
    assert all("has no finding “Hernia”" in one for one in notes(value)[1:])
    assert all("Plate" in one for one in notes(value)[1:])


def test_a_study_without_pixels(desk: Desk) -> None:
    (desk.root / "test-03.png").rename(desk.root / "away")
    try:
        value, _, said = desk.ask(study="test-03.png")
    finally:
        (desk.root / "away").rename(desk.root / "test-03.png")
    assert not value["views"]
    assert "1 of 68 listed pictures are missing" in value["empty"]
    assert "restore the files" in said


def test_gradients_that_are_not_numbers(desk: Desk) -> None:
    with torch.no_grad():
        for weight in desk.shelf.model(desk.ids[0]).trained.model.parameters():
            weight.fill_(torch.nan)
    value, _, _ = desk.ask()
    assert "not finite" in notes(value)[1]
    assert value["views"][2]["map"]


def test_a_map_that_is_the_same_everywhere(desk: Desk) -> None:
    model = desk.shelf.model(desk.ids[0]).trained.model
    with torch.no_grad():
        model.get_parameter("head.weight").zero_()
    value, _, _ = desk.ask(apart=" ".join(desk.ids))
    assert "zero everywhere" in notes(value)[1]
    assert value["views"][1]["map"]["peak"] == 0
    assert len(value["views"]) == 4


def test_weights_that_are_gone(desk: Desk) -> None:
    weights = desk.workspace.run(desk.ids[0]) / BEST
    weights.rename(weights.with_name("away"))
    try:
        value, _, said = desk.ask()
    finally:
        weights.with_name("away").rename(weights)
    assert "no weights" in notes(value)[1]
    assert value["views"][2]["map"]
    assert said == ""


@pytest.mark.parametrize(
    ("name", "pixels", "options"),
    [
        ("a.dcm", np.tile(np.arange(-2048, 2048, 32, dtype=np.int16), (96, 1)),
         {"BitsStored": 12, "HighBit": 11, "RescaleSlope": 0.5, "RescaleIntercept": -100}),
        ("a.png", np.arange(100, dtype=np.uint8).reshape(10, 10), {}),
        ("b.png", np.full((6000, 6000), 90, np.uint8), {}),
    ],
    ids=["signed DICOM", "10 × 10", "6,000 × 6,000"],
)  # fmt: skip
def test_pictures_of_ones_own_of_any_kind(
    desk: Desk, tmp_path: Path, name: str, pixels: Any, options: dict[str, Any]
) -> None:
    own = upload(tmp_path, name, pixels, **options)
    value, _, said = desk.ask(study=None, others=[], upload=own)
    assert said == ""
    assert value["pictures"][0]["full"] == [pixels.shape[1], pixels.shape[0]]
    assert value["views"][1]["map"]
    if options:
        picture = value["pictures"][0]
        assert (picture["depth"], picture["slope"]) == (12, 0.5)
        assert -1124 <= picture["intercept"] <= -1100


def test_a_photograph_is_told_from_a_radiograph(desk: Desk, tmp_path: Path) -> None:
    from sklearn.datasets import load_sample_image

    asked = Question(desk.ids[0], [], None, "Plate", "grad-cam", "", "")
    photo = upload(tmp_path, "a.png", load_sample_image("flower.jpg"))
    said = viewing.likeness(desk.shelf, replace(asked, upload=photo))
    assert "in colour" in said
    assert "distance in feature space" in said
    with Image.open(desk.root / STUDY) as opened:
        own = upload(tmp_path, "b.png", np.asarray(opened))
    said = viewing.likeness(desk.shelf, replace(asked, upload=own))
    assert "in colour" not in said
    assert "is like the run’s own" in said
    assert viewing.likeness(desk.shelf, asked) == ""


def test_maps_and_captures_are_taken_away(desk: Desk, tmp_path: Path) -> None:
    asked = Question(desk.ids[0], desk.ids[1:], STUDY, "Plate", "grad-cam", "", "")
    _, readings, plate = viewing.answers(desk.context, desk.shelf, asked)
    with zipfile.ZipFile(download.pack("npy", readings, plate, STUDY, tmp_path)) as archive:
        maps = [one for one in archive.namelist() if one.endswith(".npy")]
        assert len(maps) == 2
        with archive.open(maps[0]) as file:
            np.testing.assert_array_equal(np.load(file), readings[0].request.explanation.map)
        about = json.loads(archive.read(maps[0].replace(".npy", ".json")))
        assert about["run"] == desk.ids[0]
        assert about["shape"] == list(plate.grey.shape)
    with zipfile.ZipFile(download.pack("dcm", readings, plate, None, tmp_path)) as archive:
        names = archive.namelist()
        assert len(names) == 2
        with archive.open(names[0]) as file:
            found = pydicom.dcmread(file)
        assert found.pixel_array.ndim == 3
        assert "Plate" in found.DerivationDescription
        assert not found.PatientName
