"""Reports of real runs on a small set with boxes, by the command line."""

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from core.cli.app import app
from core.errors import ConfigurationError, CoreError, DataError, ModelError
from core.saliency.report import contact_sheet

HEAD = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position"
TRAIN = 32
RUN = ("--backbone", "timm:test_vit", "--no-pretrained", "--input-size", 64, "--epochs", 1,
       "--batch-size", 16, "--label-fraction", 1.0, "--device", "cpu")  # fmt: skip


@pytest.fixture(scope="module")
def boxed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 pictures in NIH's layout; half have Pneumonia, a bright square with a box around it."""
    root = tmp_path_factory.mktemp("nih")
    (root / "images").mkdir()
    generator = np.random.default_rng(0)
    rows, boxes, names = [], [], []
    for i in range(48):
        name, ill = f"{1 + i // 2:08d}_{i % 2:03d}.png", i % 4 in (0, 3)
        pixels = generator.integers(60, 120, (64, 64), np.uint8)
        if ill:
            x, y = (int(one) for one in generator.integers(4, 44, 2))
            pixels[y : y + 16, x : x + 16] = 250
            boxes.append(f"{name},Pneumonia,{x},{y},16,16,,,")
        Image.fromarray(pixels).save(root / "images" / name)
        label = "Pneumonia" if ill else "No Finding"
        rows.append(f"{name},{label},0,{1 + i // 2},50,M,PA")
        names.append(name)
    (root / "Data_Entry_2017_v2020.csv").write_text("\n".join([HEAD, *rows]))
    (root / "BBox_List_2017.csv").write_text(
        "\n".join(["Image Index,Finding Label,Bbox [x,y,w,h],,,", *boxes])
    )
    (root / "train_val_list.txt").write_text("\n".join(names[:TRAIN]))
    (root / "test_list.txt").write_text("\n".join(names[TRAIN:]))
    return root


def say(place: Path, *words: object) -> Any:
    """The JSON that a verb prints, or the fault that it ends with."""
    env = {"CXR_WORKSPACE": str(place)}
    done = CliRunner().invoke(app, [str(one) for one in words], env=env)
    if isinstance(done.exception, CoreError):
        return done.exception
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def place(boxed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a finished linear and a full run."""
    folder = tmp_path_factory.mktemp("report") / "workspace"
    for method in ("linear", "full"):
        say(folder, "train", "--data", "nih", "--root", boxed, "--method", method, "--name",
            method, *RUN, "--json")  # fmt: skip
    return folder


def test_a_report_has_tables_differences_and_sheets(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = say(
        place, "saliency-report", "full", "linear", "--findings", "Pneumonia", "--methods",
        "grad-cam,integrated-gradients,centre-gaussian", "--out", out, "--check", 2, "--sheet", 3,
        "--json",
    )  # fmt: skip
    assert {Path(one).name for one in said["files"]} == {
        "report.html", "report.md", "table.csv", "differences.csv", "studies.csv", "sheet-1.png",
        "sheet-2.png",
    }  # fmt: skip
    assert all(Path(one).stat().st_size > 100 for one in said["files"])
    with (out / "studies.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 3 * 8
    assert {row["split"] for row in rows} == {"test"}
    own = [float(r["energy"]) for r in rows if (r["run"], r["method"]) == ("full", "grad-cam")]
    cell = next(c for c in said["table"] if (c["run"], c["method"]) == ("full", "grad-cam"))
    assert cell["studies"] == 8
    assert cell["scores"]["energy"]["value"] == pytest.approx(np.mean(own))
    assert cell["scores"]["energy"]["low"] <= np.mean(own) <= cell["scores"]["energy"]["high"]
    other = [float(r["energy"]) for r in rows if (r["run"], r["method"]) == ("linear", "grad-cam")]
    gap = next(c for c in said["differences"] if c["second"] == ["linear", "grad-cam"])
    assert gap["scores"]["energy"]["difference"]["value"] == pytest.approx(
        np.mean(own) - np.mean(other)
    )
    assert {tuple(c["second"]) for c in said["differences"]} == {
        ("linear", "grad-cam"), ("linear", "integrated-gradients"), ("full", "centre-gaussian"),
        ("linear", "centre-gaussian"),
    }  # fmt: skip
    assert len(said["checks"]) == 6

    page = (out / "report.html").read_text()
    assert "For research and education, not for clinical use" in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert "http" not in page
    assert page.count("data:image/png;base64,") == 2
    text = (out / "report.md").read_text()
    assert "For research and education, not for clinical use" in text
    assert "| Grad-CAM | Pneumonia | full | 8 |" in text
    with Image.open(out / "sheet-1.png") as drawn:
        assert drawn.width > 300


def test_a_run_on_shuffled_labels_is_a_control(place: Path, boxed: Path, tmp_path: Path) -> None:
    say(place, "train", "--data", "nih", "--root", boxed, "--method", "full", "--name", "blind",
        "--shuffle-labels", *RUN, "--json")  # fmt: skip
    said = say(
        place, "saliency-report", "full", "blind", "--findings", "Pneumonia", "--methods",
        "grad-cam,centre-gaussian", "--out", tmp_path, "--sheet", 0, "--json",
    )  # fmt: skip
    (note,) = [one for one in said["notes"] if "shuffled labels" in one]
    assert note.startswith("Grad-CAM, full against blind (shuffled labels), ")
    shared = float(note.split(", ")[-1].split(":")[0])
    pair = next(
        one for one in said["agreement"]
        if (one["method"], one["other_method"]) == ("grad-cam", "grad-cam")
    )  # fmt: skip
    assert shared == pytest.approx(pair["correlation"], abs=0.005)
    assert ("more than what was learnt" in note) == (shared >= 0.5)


def test_patients_that_a_run_learnt_from_are_no_evidence(place: Path, tmp_path: Path) -> None:
    words = ("--findings", "Pneumonia", "--methods", "grad-cam", "--sheet", 0, "--json")
    said = say(place, "saliency-report", "full", "--split", "all", "--out", tmp_path / "a", *words)
    left_out = said["left_out"]["Pneumonia"]
    assert left_out > 8
    assert said["table"][0]["studies"] == 24 - left_out
    assert any(f"{left_out} marked studies were left out" in note for note in said["notes"])
    kept = say(place, "saliency-report", "full", "--split", "all", "--out", tmp_path / "b",
               "--with-seen", *words)  # fmt: skip
    assert kept["table"][0]["studies"] == 24
    assert any("no evidence" in note for note in kept["notes"])


def test_faults_are_said_in_words(place: Path, boxed: Path, tmp_path: Path) -> None:
    def fault(*words: object) -> Any:
        return say(place, "saliency-report", *words, "--out", tmp_path / "c", "--json")

    unknown = fault("full", "--findings", "Fracture")
    assert isinstance(unknown, DataError)
    assert "no finding “Fracture”" in str(unknown)
    nothing = fault("full", "--findings", "Hernia")
    assert isinstance(nothing, DataError)
    assert "Nothing is marked for Hernia" in str(nothing)
    method = fault("full", "--methods", "gradcam", "--findings", "Pneumonia")
    assert isinstance(method, ConfigurationError)
    pair = fault("full", "--findings", "Pneumonia", "--counterfactual")
    assert "does not know the same patient" in str(pair)
    say(place, "submit", "--data", "nih", "--root", boxed, "--name", "waiting", "--json")
    waiting = fault("waiting", "--findings", "Pneumonia")
    assert isinstance(waiting, ModelError)
    assert "waiting: This run has no weights yet" in str(waiting)


def test_a_sheet_shows_each_run_in_a_row_of_its_own() -> None:
    values = np.zeros((20, 30), np.float32)
    region = np.zeros((20, 30), np.bool_)
    region[5:10, 5:10] = True
    values[5:10, 5:10] = 1
    tile = contact_sheet.Tile(np.full((20, 30), 90, np.uint8), values, region, "Mass p 0.5")
    one = contact_sheet.draw([contact_sheet.Row("a", (tile, tile, tile))], "One run")
    long = "LoRA r 4 · embedded-mae · nih 100% · seed 0"
    two = contact_sheet.draw(
        [contact_sheet.Row(long, (tile,) * 3), contact_sheet.Row("b", (tile,) * 2)], "Two runs"
    )
    sizes = []
    for drawn in (one, two):
        with Image.open(io.BytesIO(drawn)) as picture:
            sizes.append(picture.size)
            colours = np.asarray(picture.convert("RGB")).reshape(-1, 3)
            assert (np.ptp(colours, axis=1) > 100).any()  # a map in colour
    assert sizes[0][0] == sizes[1][0]
    assert sizes[0][1] < sizes[1][1]
