"""The check names every fault at once, and no fault where there is none."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from core.data import problems
from core.data.checks import image_scan
from core.data.checks.check import check
from core.data.checks.report import Report
from core.data.datasets.registry import open_dataset
from core.data.problems import Problem
from core.errors import ConfigurationError, DataError


def checked(name: str, root: Path, *, pixels: bool = True, **options: Any) -> Report:
    return check(lambda: open_dataset(name, root, **options), pixels=pixels)


def kinds(report: Report) -> dict[str, Problem]:
    """The first fault of each kind."""
    return {fault.kind: fault for fault in reversed(report.problems)}


def radiograph(seed: int, side: int = 96) -> Image.Image:
    """Smooth noise: each seed gives an image that looks like no other."""
    noise = np.random.default_rng(seed).integers(0, 256, (12, 12)).astype(np.uint8)
    return Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Thirty sound images of as many patients, with a table."""
    root = tmp_path / "own"
    root.mkdir()
    rows = []
    for number in range(30):
        radiograph(number).save(root / f"{number:02d}.png")
        split = ("train", "val", "test")[number % 3]
        rows.append([f"{number:02d}.png", f"P{number}", split, number // 3 % 2])
    write(root, rows)
    return root


def write(root: Path, rows: list[list[Any]]) -> None:
    with (root / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "patient", "split", "Mass"], *rows])


def rows_of(root: Path) -> list[list[str]]:
    with (root / "labels.csv").open(newline="") as file:
        return list(csv.reader(file))[1:]


def test_a_sound_folder_has_no_faults(folder: Path) -> None:
    report = checked("folder", folder)
    assert report.problems == ()
    assert (report.images, report.patients, report.decoded) == (30, 30, 30)
    assert report.complete
    assert "0 errors, 0 warnings" in report.verdict()


@pytest.mark.parametrize("pixels", [True, False])
def test_every_layout_is_checked_without_an_error(opened: Any, pixels: bool) -> None:
    layout, dataset = opened
    report = check(lambda: dataset, pixels=pixels)
    # The copies of the layouts are few, and draw one body at sixty levels.
    errors = {fault.kind for fault in report.problems if fault.error}
    assert errors <= {"duplicates across splits", "wrong size", "empty classes"}, report.problems
    assert report.images == len(layout.labels)


def test_all_faults_of_a_folder_are_reported_at_once(folder: Path) -> None:
    rows = rows_of(folder)
    rows[1][1] = rows[0][1]  # one patient in two splits
    rows[2][3] = "perhaps"
    rows += [["00.png", "P0", "train", "1"], ["gone.png", "P90", "train", "0"]]
    rows += [["../secret.png", "P91", "train", "0"]]
    write(folder, rows)
    (folder / "03.png").write_bytes(b"")
    (folder / "04.png").write_text("no image")
    Image.new("L", (96, 96), 77).save(folder / "05.png")
    Image.fromarray(np.asarray(radiograph(6)) // 20).save(folder / "06.png")
    (folder / "08.png").write_bytes((folder / "07.png").read_bytes())
    ImageEnhance.Brightness(radiograph(9)).enhance(0.9).save(folder / "10.png")
    radiograph(11, side=30).save(folder / "11.png")
    radiograph(50).save(folder / "spare.png")

    report = checked("folder", folder)
    found = kinds(report)
    assert set(found) == {
        "missing files", "extra files", "empty files", "unreadable images", "wrong size",
        "constant images", "almost black images", "duplicates across splits",
        "near-duplicates across splits", "unknown labels", "contradictory labels",
        "repeated rows", "paths outside the folder", "patients in two splits",
    }  # fmt: skip
    expected = {
        "missing files": "gone.png", "extra files": "spare.png", "empty files": "03.png",
        "unreadable images": "04.png", "constant images": "05.png",
        "almost black images": "06.png", "paths outside the folder": "../secret.png",
        "contradictory labels": "00.png", "patients in two splits": "P0",
    }  # fmt: skip
    for kind, name in expected.items():
        assert found[kind].count == 1, kind
        assert found[kind].examples[0].startswith(name), kind
    assert "07.png (val) = 08.png (test)" in found["duplicates across splits"].examples
    assert "09.png (train) ≈ 10.png (val)" in found["near-duplicates across splits"].examples
    warnings = {fault.kind for fault in report.problems if not fault.error}
    assert warnings == {
        "extra files", "almost black images", "near-duplicates across splits", "repeated rows",
        "wrong size", "unknown labels",
    }  # fmt: skip
    assert found["unreadable images"].cause == "1 image cannot be read."
    assert all(fault.cause and (fault.remedy or not fault.error) for fault in report.problems)
    assert [problems.KINDS.index(one.kind) for one in report.problems] == sorted(
        problems.KINDS.index(one.kind) for one in report.problems
    )


def test_a_run_is_still_refused(folder: Path) -> None:
    rows = rows_of(folder)
    rows[1][1] = rows[0][1]
    write(folder, rows)
    assert kinds(checked("folder", folder))["patients in two splits"].error
    with pytest.raises(DataError, match="P0"):
        open_dataset("folder", folder)


def test_the_part_without_pixels_decodes_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(image_scan, "statistics", never)
    (folder / "04.png").write_text("no image")
    (folder / "05.png").unlink()
    report = checked("folder", folder, pixels=False)
    assert report.decoded == 0
    assert set(kinds(report)) == {"missing files"}


def test_nih_tables_and_lists_are_checked_together(fresh: Callable[[str], Any]) -> None:
    layout = fresh("nih")
    names = list(layout.files)
    table = layout.root / "Data_Entry_2017_v2020.csv"
    lines = table.read_text().splitlines()
    lines[1] = lines[1].replace("No Finding", "No Finding|Mass")
    lines[2] = lines[2].replace(lines[2].split(",")[1], "Rumour", 1)
    lines.append(lines[5].replace(lines[5].split(",")[1], "Hernia", 1))
    table.write_text("\n".join(line for line in lines if not line.startswith(names[9])))
    layout.files[names[12]].unlink()
    (layout.root / "BBox_List_2017.csv").write_text(
        f"h\n{names[3]},Mass,2000,5,20,10\n{names[4]},Mass,4,5,0,10\n"
    )
    patient = names[0].split("_")[0]
    test = layout.root / "test_list.txt"
    test.write_text(test.read_text() + f"\n{names[0]}")
    report = checked("nih", layout.root)
    found = kinds(report)
    assert {
        "missing files", "unknown labels", "contradictory labels", "repeated rows",
        "patients in two splits", "boxes outside the image", "boxes without their label",
    } <= set(found)  # fmt: skip
    causes = " ".join(fault.cause for fault in report.problems)
    assert "Rumour" in causes
    assert "No Finding" in causes
    assert "beyond the edge" in causes
    assert "no area" in causes
    assert patient in names[0]


def test_published_lists_with_shared_patients_are_a_warning(fresh: Callable[[str], Any]) -> None:
    layout = fresh("nih-paper")
    lists = {one: (layout.root / f"{one}_list.txt") for one in ("train", "val")}
    moved, *rest = lists["train"].read_text().splitlines()[1:3]
    lists["val"].write_text("\n".join([lists["val"].read_text(), moved]))
    kept = [line for line in lists["train"].read_text().splitlines() if line != moved]
    lists["train"].write_text("\n".join(kept))
    assert rest
    shared = kinds(checked("nih", layout.root, pixels=False, split="paper"))
    assert not shared["patients in two splits"].error


def test_findings_without_positives_are_reported(folder: Path) -> None:
    write(folder, [[*row[:3], 0 if row[2] == "val" else row[3]] for row in rows_of(folder)])
    (fault,) = checked("folder", folder, pixels=False).problems
    assert (fault.kind, fault.examples) == ("empty classes", ("Mass",))
    assert "val" in fault.cause


def test_a_folder_that_cannot_be_opened_is_reported(tmp_path: Path) -> None:
    (fault,) = checked("nih", tmp_path).problems
    assert fault.kind == "cannot be opened"
    assert "Data_Entry_2017_v2020.csv" in fault.cause
    with pytest.raises(ConfigurationError, match="Did you mean nih"):
        checked("nhi", tmp_path)
    with pytest.raises(DataError, match="no split"):
        checked("nih", tmp_path, split="mine")


def test_a_check_can_be_stopped_and_tells_progress(folder: Path) -> None:
    calls: list[tuple[int, int]] = []
    report = check(
        lambda: open_dataset("folder", folder),
        progress=lambda done, total: calls.append((done, total)),
        should_stop=lambda: True,
    )
    assert 0 < report.decoded <= 30
    assert calls[0][1] == 30
    assert report.complete == (report.decoded == 30)


def test_perceptual_hashes_survive_what_does_not_change_an_image() -> None:
    def bits(one: Image.Image) -> Any:
        return np.unpackbits(np.frombuffer(image_scan.perceptual_hash(np.asarray(one)), np.uint8))

    plain = [bits(radiograph(seed)) for seed in range(20)]
    for seed, known in enumerate(plain):
        small = radiograph(seed).resize((70, 70), Image.Resampling.BICUBIC)
        assert (bits(small) != known).sum() <= image_scan.NEAR
    apart = [(a != b).sum() for i, a in enumerate(plain) for b in plain[:i]]
    assert min(apart) > 2 * image_scan.NEAR
