"""The Saliency page: maps of studies and uploads, downloads, and messages for each failure."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pydicom
import pytest
import torch
from PIL import Image

from core.config.run import RunSpec
from core.data.datasets import files
from core.runs import queue, worker
from core.runs.store import Store, open_store
from core.saliency import hit_rates
from core.saliency.hit_rates import HitRate
from core.training.loop import fine_tune
from core.workspace import BEST, Workspace, open_workspace
from explorer.components import study_views
from explorer.components.model_cache import ModelCache
from explorer.context import Context
from explorer.pages.saliency import download, view
from explorer.pages.saliency.uploads import Upload, Uploads
from explorer.pages.saliency.view import Selection
from explorer.server.hit_rates import BackgroundHitRates
from tests.support.layouts import save_dicom

SIDE = 64
STUDY = "test-01.png"


@dataclass
class Page:
    """A workspace with two runs of a second on the same radiographs."""

    workspace: Workspace
    store: Store
    context: Context
    root: Path
    ids: list[str]
    models: ModelCache

    def show(self, **changes: Any) -> tuple[dict[str, Any], str, str]:
        selection = Selection(self.ids[0], self.ids[1:], STUDY, "Plate", "grad-cam", "", "")
        value, below, message, *_ = view.show(
            self.context, self.models, replace(selection, **changes)
        )
        return json.loads(value), below, message


@pytest.fixture(scope="module")
def trained(radiographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Page:
    folder = tmp_path_factory.mktemp("viewing")
    root = shutil.copytree(radiographs, folder / "images")
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
    return Page(workspace, store, context, root, ids, ModelCache(workspace, store))


@pytest.fixture
def page(trained: Page) -> Page:
    """The same with models as they were trained."""
    return replace(trained, models=ModelCache(trained.workspace, trained.store))


def notes(value: dict[str, Any]) -> list[str]:
    return [" ".join(view["notes"]) for view in value["views"]]


def upload(tmp_path: Path, name: str, pixels: Any = None, **options: Any) -> Upload:
    path = tmp_path / name
    if path.suffix == ".dcm":
        save_dicom(path, pixels, **options)
    elif pixels is not None:
        Image.fromarray(pixels).save(path)
    return Uploads().take("session", path)


def test_a_study_under_two_runs_with_their_difference(page: Page) -> None:
    value, below, message = page.show(difference=" ".join(page.ids))
    assert message == ""
    assert [bool(view["map"]) for view in value["views"]][:3] == [False, True, True]
    difference = value["views"][3]
    assert " − " in difference["title"]
    assert ", called " in str(value["views"][1]["facts"])
    assert "Plate" in below
    assert difference["map"] is None or difference["map"]["signed"]


def test_a_file_is_decoded_once_for_the_viewer_and_all_models(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[Path] = []

    def counting(read: Any) -> Any:
        def counted(path: Path, *rest: Any) -> Any:
            decoded.append(path)
            return read(path, *rest)

        return counted

    for name in ("read_image", "read_radiograph"):
        monkeypatch.setattr(files, name, counting(getattr(files, name)))
    value, _, _ = page.show()
    assert [bool(shown["map"]) for shown in value["views"]] == [False, True, True]
    page.show(method="hirescam")
    page.show(difference=" ".join(page.ids))
    assert decoded == [page.root / STUDY]
    os.utime(page.root / STUDY, (1, 1))  # the file was replaced
    page.show(method="layercam")
    assert decoded == [page.root / STUDY] * 2


def test_runs_shown_together_are_named_by_their_differences(page: Page) -> None:
    runs = [page.store.get(one) for one in page.ids]
    short = study_views.titles(runs)
    assert len(set(short)) == 2
    assert all(one in run.name and " · " not in one for one, run in zip(short, runs, strict=True))
    assert study_views.titles(runs[:1]) == [runs[0].name]
    alike = study_views.titles([runs[0], replace(runs[1], name=runs[0].name)])
    assert len(set(alike)) == 2


def test_a_finding_that_the_model_does_not_have(page: Page) -> None:
    value, _, _ = page.show(finding="Hernia")
    assert all("“Hernia”" in one for one in notes(value)[1:])
    assert all("Plate" in one for one in notes(value)[1:])


def test_a_study_whose_file_is_missing(page: Page) -> None:
    (page.root / "test-03.png").rename(page.root / "away")
    try:
        value, _, message = page.show(study="test-03.png")
    finally:
        (page.root / "away").rename(page.root / "test-03.png")
    assert not value["views"]
    assert "1 of 68 listed images are missing" in value["empty"]
    assert "restore the files" in message


def test_gradients_that_are_not_finite(page: Page) -> None:
    with torch.no_grad():
        for weight in page.models.model(page.ids[0]).trained.model.parameters():
            weight.fill_(torch.nan)
    value, _, _ = page.show()
    assert "not finite" in notes(value)[1]
    assert value["views"][2]["map"]


def test_a_map_of_zeros(page: Page) -> None:
    model = page.models.model(page.ids[0]).trained.model
    with torch.no_grad():
        model.get_parameter("head.weight").zero_()
    value, _, _ = page.show(difference=" ".join(page.ids))
    assert "zero everywhere" in notes(value)[1]
    assert value["views"][1]["map"]["peak"] == 0
    assert len(value["views"]) == 4


def test_missing_weights(page: Page) -> None:
    weights = page.workspace.run(page.ids[0]) / BEST
    weights.rename(weights.with_name("away"))
    try:
        value, _, message = page.show()
    finally:
        weights.with_name("away").rename(weights)
    assert "no weights" in notes(value)[1]
    assert value["views"][2]["map"]
    assert message == ""


@pytest.mark.slow
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
def test_uploaded_images_of_any_kind(
    page: Page, tmp_path: Path, name: str, pixels: Any, options: dict[str, Any]
) -> None:
    own = upload(tmp_path, name, pixels, **options)
    value, _, message = page.show(study=None, others=[], upload=own)
    assert message == ""
    assert value["images"][0]["full"] == [pixels.shape[1], pixels.shape[0]]
    assert value["views"][1]["map"]
    if options:
        image = value["images"][0]
        assert (image["depth"], image["slope"]) == (12, 0.5)
        assert -1124 <= image["intercept"] <= -1100


def test_a_photograph_is_out_of_distribution(page: Page, tmp_path: Path) -> None:
    from sklearn.datasets import load_sample_image

    selection = Selection(page.ids[0], [], None, "Plate", "grad-cam", "", "")
    photo = upload(tmp_path, "a.png", load_sample_image("flower.jpg"))
    message = view.out_of_distribution(page.models, replace(selection, upload=photo))
    assert "in colour" in message
    assert "distance in feature space" in message
    with Image.open(page.root / STUDY) as opened:
        own = upload(tmp_path, "b.png", np.asarray(opened))
    message = view.out_of_distribution(page.models, replace(selection, upload=own))
    assert "in colour" not in message
    assert "similar to the run’s own" in message
    assert view.out_of_distribution(page.models, selection) == ""


def test_maps_and_captures_are_downloaded(page: Page, tmp_path: Path) -> None:
    selection = Selection(page.ids[0], page.ids[1:], STUDY, "Plate", "grad-cam", "", "")
    _, run_views, radiograph = view.explain(page.context, page.models, selection)
    with zipfile.ZipFile(download.pack("npy", run_views, radiograph, STUDY, tmp_path)) as archive:
        maps = [one for one in archive.namelist() if one.endswith(".npy")]
        assert len(maps) == 2
        with archive.open(maps[0]) as file:
            np.testing.assert_array_equal(np.load(file), run_views[0].explained.explanation.map)
        about = json.loads(archive.read(maps[0].replace(".npy", ".json")))
        assert about["run"] == page.ids[0]
        assert about["shape"] == list(radiograph.grey.shape)
    with zipfile.ZipFile(download.pack("dcm", run_views, radiograph, None, tmp_path)) as archive:
        names = archive.namelist()
        assert len(names) == 2
        with archive.open(names[0]) as file:
            found = pydicom.dcmread(file)
        assert found.pixel_array.ndim == 3
        assert "Plate" in found.DerivationDescription
        assert not found.PatientName


def write_rates(page: Page, low: float) -> None:
    """Store hit rates as if measured: a hit on one study, of a finding that is not the first."""
    finding = page.models.dataset(page.store.get(page.ids[0]).spec.data).findings[-1]
    one = HitRate(finding, 6, 4 / 6, 0.0, low, 0.9, (STUDY,))
    rates = {"method": "grad-cam", "findings": [asdict(one)], "mean": asdict(one)}
    (page.workspace.run(page.ids[0]) / hit_rates.FILE).write_text(json.dumps(rates))


@pytest.mark.filterwarnings("ignore:The value passed into gr.Dropdown")  # an update, not a field
def test_the_page_opens_on_a_hit_and_leads_with_the_hit_rate(page: Page) -> None:
    file = page.workspace.run(page.ids[0]) / hit_rates.FILE
    assert view.hit_rates(page.models, page.ids[0]) == ""  # nothing is marked in this data set
    assert not file.exists()
    findings = page.models.dataset(page.store.get(page.ids[0]).spec.data).findings
    offered = view.offer(page.context, page.models, page.ids[0], None, None, "all", "listed", None)
    assert offered[2].value == findings[0]
    write_rates(page, low=0.2)
    try:
        offered = view.offer(
            page.context, page.models, page.ids[0], None, None, "all", "listed", None
        )
        assert (offered[2].value, offered[3].value) == (findings[-1], STUDY)
        chosen = view.offer(
            page.context, page.models, page.ids[0], None, findings[0], "all", "listed", None
        )
        assert chosen[2].value == findings[0]
        page.models = ModelCache(page.workspace, page.store)
        html = view.hit_rates(page.models, page.ids[0])
        assert "inside the marked region in 67% of the test studies</b>" in html
        assert "4 of 6" in html
        write_rates(page, low=-0.2)
        page.models = ModelCache(page.workspace, page.store)
        html = view.hit_rates(page.models, page.ids[0])
        assert "does not place its findings better" in html
    finally:
        file.unlink()


def test_the_latest_run_is_measured_when_no_run_waits(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[str] = []
    monkeypatch.setattr(page.models, "measure_hit_rates", measured.append)
    background = BackgroundHitRates(page.store, page.models)
    background.step()
    assert measured == []  # its runs completed before the explorer was started
    background._since = 0.0
    waiting = queue.submit(page.store, RunSpec())
    background.step()
    assert measured == []
    page.store.delete(waiting.id)
    background.step()
    background.step()
    assert measured == [page.ids[1]]
