"""Reports of real runs on a small set with boxes, by the command line."""

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from core.cli.app import app
from core.errors import ConfigurationError, CoreError, DataError, ModelError
from core.saliency.report import contact_sheet, render
from core.saliency.report.report import Report
from core.saliency.scores import summary
from core.saliency.scores.score_maps import ScoredMaps, ScoringOptions

HEAD = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position"
TRAIN = 32
RUN = ("--backbone", "timm:test_vit", "--no-pretrained", "--input-size", 64, "--epochs", 1,
       "--batch-size", 16, "--label-fraction", 1.0, "--device", "cpu")  # fmt: skip


@pytest.fixture(scope="module")
def boxed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 images in NIH's layout; half have Pneumonia, a bright square with a box around it."""
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


def run_command(workspace: Path, *words: object) -> Any:
    """The JSON that a command prints, or the error that it ends with."""
    env = {"CXR_WORKSPACE": str(workspace)}
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
        run_command(folder, "train", "--data", "nih", "--root", boxed, "--method", method, "--name",
            method, *RUN, "--json")  # fmt: skip
    return folder


@pytest.mark.slow
def test_a_report_has_tables_differences_and_sheets(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run_command(
        place, "saliency-report", "full", "linear", "--findings", "Pneumonia", "--methods",
        "grad-cam,integrated-gradients,centre-gaussian", "--out", out, "--check", 2, "--sheet", 3,
        "--json",
    )  # fmt: skip
    assert {Path(one).name for one in result["files"]} == {
        "report.html", "report.md", "table.csv", "differences.csv", "studies.csv", "sheet-1.png",
        "sheet-2.png",
    }  # fmt: skip
    assert all(Path(one).stat().st_size > 100 for one in result["files"])
    with (out / "studies.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 3 * 8
    assert {row["split"] for row in rows} == {"test"}
    own = [float(r["energy"]) for r in rows if (r["run"], r["method"]) == ("full", "grad-cam")]
    cell = next(c for c in result["table"] if (c["run"], c["method"]) == ("full", "grad-cam"))
    assert cell["studies"] == 8
    assert cell["scores"]["energy"]["value"] == pytest.approx(np.mean(own))
    assert cell["scores"]["energy"]["low"] <= np.mean(own) <= cell["scores"]["energy"]["high"]
    other = [float(r["energy"]) for r in rows if (r["run"], r["method"]) == ("linear", "grad-cam")]
    gap = next(c for c in result["differences"] if c["second"] == ["linear", "grad-cam"])
    assert gap["scores"]["energy"]["difference"]["value"] == pytest.approx(
        np.mean(own) - np.mean(other)
    )
    assert {tuple(c["second"]) for c in result["differences"]} == {
        ("linear", "grad-cam"), ("linear", "integrated-gradients"), ("full", "centre-gaussian"),
        ("linear", "centre-gaussian"),
    }  # fmt: skip
    assert len(result["checks"]) == 6

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
    run_command(
        place, "train", "--data", "nih", "--root", boxed, "--method", "full", "--name", "blind",
        "--shuffle-labels", *RUN, "--json",
    )  # fmt: skip
    result = run_command(
        place, "saliency-report", "full", "blind", "--findings", "Pneumonia", "--methods",
        "grad-cam,centre-gaussian", "--out", tmp_path, "--sheet", 0, "--json",
    )  # fmt: skip
    (note,) = [one for one in result["notes"] if "shuffled labels" in one]
    assert note.startswith("Grad-CAM, full against blind (shuffled labels), ")
    shared = float(note.split(", ")[-1].split(":")[0])
    pair = next(
        one for one in result["agreement"]
        if (one["method"], one["other_method"]) == ("grad-cam", "grad-cam")
    )  # fmt: skip
    assert shared == pytest.approx(pair["correlation"], abs=0.005)
    assert ("more than what was learnt" in note) == (shared >= 0.5)


def test_patients_that_a_run_was_trained_on_are_left_out(place: Path, tmp_path: Path) -> None:
    words = ("--findings", "Pneumonia", "--methods", "grad-cam", "--sheet", 0, "--json")
    command = ("saliency-report", "full", "--split", "all", *words)
    result = run_command(place, *command, "--out", tmp_path / "a")
    left_out = result["left_out"]["Pneumonia"]
    assert left_out > 8
    assert result["table"][0]["studies"] == 24 - left_out
    assert any(f"{left_out} marked studies were left out" in note for note in result["notes"])
    kept = run_command(place, *command, "--with-seen", "--out", tmp_path / "b")
    assert kept["table"][0]["studies"] == 24
    assert any("no evidence" in note for note in kept["notes"])


def test_invalid_options_are_reported(place: Path, boxed: Path, tmp_path: Path) -> None:
    def error_of(*words: object) -> Any:
        return run_command(place, "saliency-report", *words, "--out", tmp_path / "c", "--json")

    unknown = error_of("full", "--findings", "Fracture")
    assert isinstance(unknown, DataError)
    assert "no finding “Fracture”" in str(unknown)
    nothing = error_of("full", "--findings", "Hernia")
    assert isinstance(nothing, DataError)
    assert "has a marked region of Hernia" in str(nothing)
    method = error_of("full", "--methods", "gradcam", "--findings", "Pneumonia")
    assert isinstance(method, ConfigurationError)
    pair = error_of("full", "--findings", "Pneumonia", "--counterfactual")
    assert "has no images of the same patient" in str(pair)
    run_command(place, "submit", "--data", "nih", "--root", boxed, "--name", "waiting", "--json")
    waiting = error_of("waiting", "--findings", "Pneumonia")
    assert isinstance(waiting, ModelError)
    assert "waiting: This run has no weights yet" in str(waiting)


def test_names_are_escaped() -> None:
    rows = pd.DataFrame(
        [{"run": "<i>a</i>", "method": "grad-cam", "finding": "Mass", "study": "s", "patient": "p",
          "split": "test", "area": 0.1, "hit": 1.0, "energy": 0.5, "iou": 0.4, "best_iou": 0.6,
          "on border": 0.1}]
    )  # fmt: skip
    maps = ScoredMaps(rows, {}, pd.DataFrame(), ())
    made = Report(
        title="A & B", split="own, test", options=ScoringOptions(("Mass",)), runs=("<i>a</i>",),
        maps=maps, cells=summary.cells(rows, draws=10), contrasts=[], label_free=[],
        sheets={"Best \"maps\"": b"png"}, notes=("x < y | z",),
    )  # fmt: skip
    page = render.as_html(made)
    assert "<h1>Where the models look: A &amp; B</h1>" in page
    assert '<td class="t">&lt;i&gt;a&lt;/i&gt;</td>' in page
    assert 'alt="Best &#34;maps&#34;" src="data:image/png;base64,cG5n"' in page
    assert "<li>x &lt; y | z</li>" in page
    assert "| Grad-CAM | Mass | <i>a</i> | 1 | 0.100 |" in render.as_markdown(made)


def test_a_contact_sheet_has_a_row_per_run() -> None:
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
        with Image.open(io.BytesIO(drawn)) as drawn_image:
            sizes.append(drawn_image.size)
            colours = np.asarray(drawn_image.convert("RGB")).reshape(-1, 3)
            assert (np.ptp(colours, axis=1) > 100).any()  # a map in colour
    assert sizes[0][0] == sizes[1][0]
    assert sizes[0][1] < sizes[1][1]
