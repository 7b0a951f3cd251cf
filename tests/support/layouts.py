"""Small copies of the folder layouts of the data sets.

Each generator writes a layout to an empty folder and returns how to open it and what it contains.
The images are simple: black corners, and a bright body whose level depends on the study.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from core.data import findings, splits
from core.data.findings import CHEXPERT_14

HEIGHT, WIDTH = 40, 48


@dataclass
class Layout:
    """A layout on disk.

    Attributes:
        name: Key of the registry.
        root: The folder or file to open.
        split: The split; None for the default.
        options: Further arguments.
        expected: Pixels by study id.
        tolerance: Largest difference of a pixel, if the format is lossy.
        labels: Positive findings by study id.
        patients: Patient by study id.
        boxes: Number of boxes by study id.
        files: Path by study id, if each study has a file.
        notes: Whether the data set has notes.
    """

    name: str
    root: Path
    split: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    expected: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    tolerance: int = 0
    labels: dict[str, set[str]] = field(default_factory=dict)
    patients: dict[str, str] = field(default_factory=dict)
    boxes: dict[str, int] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    notes: bool = False


def body_image(number: int, height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    """A body of a distinct brightness on black; a gradient reveals a wrong orientation."""
    image = np.zeros((height, width), np.float64)
    body = image[height // 8 : -height // 8, width // 8 : -width // 8]
    down = np.linspace(0, 40, body.shape[0])[:, None]
    across = np.linspace(0, 20, body.shape[1])[None, :]
    body[:] = 100 + number % 60 + down + across
    return image.astype(np.uint8)


def save(path: Path, pixels: NDArray[np.uint8], mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).convert(mode).save(path)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    packed = io.BytesIO()
    image.save(packed, kind, **options)
    return packed.getvalue()


def save_deep(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Sixteen bits per pixel, of which twelve are used."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint16) * 16).save(path)


def save_dicom(
    path: Path, pixels: NDArray[np.generic], *, inverted: bool = False, jpeg: bool = False,
    **attributes: Any,
) -> None:  # fmt: skip
    """A secondary capture; ``inverted`` stores it as MONOCHROME1."""
    import pydicom
    from pydicom.encaps import encapsulate
    from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit, generate_uid

    stored = (pixels.max() - pixels).astype(pixels.dtype) if inverted else pixels
    if inverted and pixels.dtype == np.uint8:
        stored = 255 - pixels
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[path.name])
    meta.TransferSyntaxUID = JPEGBaseline8Bit if jpeg else ExplicitVRLittleEndian
    file = pydicom.Dataset()
    file.file_meta = meta
    file.PatientName = "Doe^Jane"
    file.PatientID = "secret-42"
    file.PatientSex, file.PatientAge, file.ViewPosition = "F", "049Y", "PA"
    bits = 8 * stored.dtype.itemsize
    file.Rows, file.Columns = stored.shape[:2]
    file.SamplesPerPixel = 1
    file.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    file.BitsAllocated, file.BitsStored, file.HighBit = bits, bits, bits - 1
    file.PixelRepresentation = int(stored.dtype.kind == "i")
    if jpeg:
        image = Image.fromarray(stored.astype(np.uint8))
        file.PixelData = encapsulate([encoded(image, "JPEG", quality=95)])
        file["PixelData"].VR = "OB"
    else:
        file.PixelData = stored.tobytes()
    for name, value in attributes.items():
        if value is None:
            delattr(file, name)
        else:
            setattr(file, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    file.save_as(path, enforce_file_format=True)


def nih(root: Path, split: str = "official") -> Layout:
    """Numbered folders of images, some RGBA; the table's and the boxes' odd headers."""
    layout = Layout("nih", root, split)
    rows: list[list[Any]] = []
    boxes: list[list[Any]] = []
    for patient in range(40):
        for follow_up in range(1 + patient % 3):
            number = len(rows)
            name = f"{patient + 1:08d}_{follow_up:03d}.png"
            marked = {findings.NIH[(patient * 3 + k) % 14] for k in range(patient % 3)}
            file = root / f"images_{1 + number % 2:03d}" / "images" / name
            if split == "paper":
                file = root / "all_classes" / name
            layout.expected[name] = body_image(number)
            save(file, layout.expected[name], "RGBA" if number % 7 == 0 else "L")
            text = "|".join(sorted(marked)) or "No Finding"
            sex = "MF"[patient % 2]
            rows.append(
                [name, text, follow_up, patient + 1, 30 + patient, sex, "PA", 48, 40, 0.1, 0.1]
            )
            layout.labels[name] = marked
            layout.patients[name] = str(patient + 1)
            layout.files[name] = file
            if marked and number % 4 == 0:
                word = sorted(marked)[0]
                word = "Infiltrate" if word == "Infiltration" else word
                boxes.append([name, word, 4.5, 5.25, 20.0, 10.5, "", "", ""])
                layout.boxes[name] = 1
    _write_rows(
        root / "Data_Entry_2017_v2020.csv",
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,"
        "View Position,OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]",
        rows,
    )
    _write_rows(root / "BBox_List_2017.csv", "Image Index,Finding Label,Bbox [x,y,w,h],,,", boxes)
    names = [row[0] for row in rows]
    test = [name for name in names if int(name[:8]) > 30]
    train = [name for name in names if int(name[:8]) <= 30]
    if split == "official":
        (root / "train_val_list.txt").write_text("\n".join(train))
        (root / "test_list.txt").write_text("\n".join(test))
        return layout
    val = [name for name in train if int(name[:8]) > 25]
    parts = {"train": [one for one in train if one not in val], "val": val, "test": test}
    for part, listed in parts.items():
        lines = [
            f"{one} " + " ".join(str(int(f in layout.labels[one])) for f in findings.NIH) + " "
            for one in listed
        ]
        (root / f"{part}_list.txt").write_text("\n".join(lines))
    return layout


def nih_paper(root: Path) -> Layout:
    """MED-PEFT's layout: one folder, and lists with labels."""
    return nih(root, "paper")


CHEXPERT_WORDS = {1.0: "1.0", 0.0: "0.0", -1.0: "-1.0", None: ""}


def chexpert(root: Path) -> Layout:
    """The small release below its parent, uncertain and empty cells, test labels beside it."""
    layout = _chexpert(Layout("chexpert", root, tolerance=6, notes=True), "CheXpert-v1.0-small")
    _chexpert_tests(layout, root / "CheXpert-v1.0-small")
    return layout


def chexpert_full(root: Path) -> Layout:
    """The release in full size, named itself, without test labels."""
    layout = _chexpert(Layout("chexpert", root, tolerance=6, notes=True), "CheXpert-v1.0")
    layout.root = root / "CheXpert-v1.0"
    return layout


def chexpert_paper(root: Path) -> Layout:
    """The published lists but that of the whole training split; no test labels of the authors."""
    layout = chexpert(root)
    layout.split = "paper"
    folder = root / "CheXpert-v1.0-small"
    (folder / "test_labels.csv").unlink()
    (root / "CheXpert").mkdir()
    for split, name in {"valid": "val", "test": "test"}.items():
        lines = [
            f"CheXpert-v1.0-small/{one} "
            + " ".join(str(int(name in marked)) for name in findings.CHEXPERT)
            for one, marked in layout.labels.items()
            if one.startswith(f"{split}/")
        ]
        (root / "CheXpert" / f"{name}_list.txt").write_text("\n".join(lines))
    return layout


def _chexpert(layout: Layout, release: str) -> Layout:
    folder = layout.root / release
    for split, patients in {"train": range(1, 41), "valid": range(41, 49)}.items():
        rows = []
        for patient in patients:
            for view in range(1 + patient % 2):
                side = ("frontal", "lateral")[view]
                one = (
                    f"{split}/patient{patient:05d}/study{1 + patient % 3}/view{view + 1}_{side}.jpg"
                )
                cells = _chexpert_cells(patient, uncertain=split == "train")
                layout.labels[one] = {
                    name
                    for name in findings.CHEXPERT
                    if cells[name] == 1 or (cells[name] == -1 and name[0] in "AEP")
                }
                _chexpert_image(layout, folder, one, patient)
                about = [("Male", "Female", "Unknown")[patient % 3], 20 + patient,
                         side.capitalize(), "" if view else ("AP", "PA")[patient % 2]]  # fmt: skip
                words = [CHEXPERT_WORDS[cells[name]] for name in findings.CHEXPERT_14]
                rows.append([f"{release}/{one}", *about, *words])
        header = "Path,Sex,Age,Frontal/Lateral,AP/PA," + ",".join(findings.CHEXPERT_14)
        _write_rows(folder / f"{split}.csv", header, rows)
    return layout


def _chexpert_cells(patient: int, *, uncertain: bool) -> dict[str, float | None]:
    levels = (1.0, 0.0, -1.0 if uncertain else 1.0, None)
    return {name: levels[(patient * 3 + 2 * k + patient // 5) % 4]
            for k, name in enumerate(findings.CHEXPERT_14)}  # fmt: skip


def _chexpert_image(layout: Layout, folder: Path, one: str, patient: int) -> None:
    layout.patients[one] = f"patient{patient:05d}"
    layout.expected[one], layout.files[one] = body_image(len(layout.expected)), folder / one
    save(folder / one, layout.expected[one])


def _chexpert_tests(layout: Layout, folder: Path) -> None:
    """Test labels as CheXlocalize has them: paths, and one column a finding, no sex or age."""
    rows = []
    for patient in range(64741, 64751):
        one = f"test/patient{patient:05d}/study1/view1_frontal.jpg"
        cells = _chexpert_cells(patient, uncertain=False)
        layout.labels[one] = {name for name in findings.CHEXPERT if cells[name] == 1}
        _chexpert_image(layout, folder, one, patient)
        rows.append([one, *(cells[name] or 0.0 for name in findings.CHEXPERT_14)])
    header = "Path," + ",".join(findings.CHEXPERT_14)
    _write_rows(folder / "test_labels.csv", header, rows)


def mimic(root: Path) -> Layout:
    """Gzipped tables, labels by study, uncertain and empty cells, one study without labels."""
    layout = Layout("mimic", root, options={"views": "all"}, tolerance=6, notes=True)
    rows: list[list[Any]] = []
    views: list[list[Any]] = []
    labels: list[list[Any]] = []
    for patient in range(40):
        subject, study = str(10_000_032 + 7 * patient), str(50_414_267 + 11 * patient)
        split = ("train", "train", "validate", "train", "test", "train", "test")[patient % 7]
        cells = _chexpert_cells(patient, uncertain=True)
        if patient != 7:
            words = [CHEXPERT_WORDS[cells[name]] for name in CHEXPERT_14]
            labels.append([subject, study, *words])
        for view in range(1 + patient % 2):
            number = len(rows)
            one = "-".join(f"{number * 7919 + k:08x}" for k in range(5))
            rows.append([one, study, subject, split])
            position = ("LATERAL", "LL")[patient // 2 % 2] if view else ("AP", "PA")[patient % 2]
            views.append([one, subject, study, position if patient != 8 else "", HEIGHT, WIDTH])
            file = root / f"files/p{subject[:2]}/p{subject}/s{study}/{one}.jpg"
            if patient == 7:
                save(file, body_image(number))
                continue
            layout.expected[one], layout.files[one] = body_image(number), file
            layout.patients[one] = f"p{subject}"
            layout.labels[one] = {
                name for name in findings.CHEXPERT
                if cells[name] == 1 or (cells[name] == -1 and name[0] in "AEP")
            }  # fmt: skip
            save(file, layout.expected[one])
    table = "mimic-cxr-2.0.0-{}.csv.gz"
    _write_rows(root / table.format("split"), "dicom_id,study_id,subject_id,split", rows)
    header = "dicom_id,subject_id,study_id,ViewPosition,Rows,Columns"
    _write_rows(root / table.format("metadata"), header, views)
    header = "subject_id,study_id," + ",".join(CHEXPERT_14)
    _write_rows(root / table.format("chexpert"), header, labels)
    return layout


def mimic_frontal(root: Path) -> Layout:
    """Unzipped tables below the folder that a download makes; frontal views, as by default."""
    place = root / "physionet.org" / "files" / "mimic-cxr-jpg" / "2.1.0"
    layout = mimic(place)
    layout.root, layout.options = root, {}
    for table in place.glob("*.csv.gz"):
        table.with_suffix("").write_bytes(gzip.decompress(table.read_bytes()))
        table.unlink()
    read = _read_rows(place / "mimic-cxr-2.0.0-metadata.csv")
    frontal = {row[0] for row in read if row[3] in ("AP", "PA")}
    for facts in (layout.expected, layout.files, layout.patients, layout.labels):
        for one in set(facts) - frontal:
            del facts[one]
    return layout


def padchest(root: Path) -> Layout:
    """16-bit PNG in numbered folders, labels as Python writes a list, some rows without any."""
    layout = Layout("padchest", root, options={"views": "all"}, tolerance=4, notes=True)
    terms = {
        "laminar atelectasis": {"Atelectasis"}, "cardiomegaly": {"Cardiomegaly"},
        "consolidation": {"Consolidation", "Infiltration"}, "hydropneumothorax":
        {"Effusion", "Pneumothorax"}, "multiple nodules": {"Nodule"}, "hiatal hernia": {"Hernia"},
        "scoliosis": set(), "normal": set(), "pneumonia": {"Pneumonia"},
        "pulmonary fibrosis": {"Fibrosis"}, "apical pleural thickening": {"Pleural_Thickening"},
    }  # fmt: skip
    words = list(terms)
    rows = []
    for number in range(80):
        patient = number // 2
        one = f"21684011136696{number:04d}_{number:02d}-abc.png"
        said = [words[number % len(words)]] + [" " + words[number * 5 % len(words)]] * (number % 2)
        cell = {11: "", 12: "['exclude']", 13: "['normal', 'suboptimal study']", 14: "[]"}.get(
            number, repr(said)
        )
        projection = ("PA", "AP_horizontal", "L", "COSTAL")[number % 4]
        by = ("Physician", "RNN_model")[number % 3 > 0]
        rows.append(
            [number, one, number % 3, "20130612", f"P{patient}", 1940.0 + patient,
             "FM"[patient % 2], projection, by, cell]
        )  # fmt: skip
        file = root / str(number % 3) / one
        save_deep(file, body_image(number))
        if number not in range(11, 15):
            stretched = np.rint(body_image(number) * (255 / body_image(number).max()))
            layout.expected[one], layout.files[one] = stretched.astype(np.uint8), file
            layout.patients[one] = f"P{patient}"
            layout.labels[one] = set().union(*(terms[word.strip()] for word in said))
    header = (
        ",ImageID,ImageDir,StudyDate_DICOM,PatientID,PatientBirth,PatientSex_DICOM,Projection,"
        "MethodLabel,Labels"
    )
    name = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
    _write_rows(root / name, header, rows)
    return layout


def padchest_physicians(root: Path) -> Layout:
    """A gzipped table, images in one folder, frontal views, tested on labels by physicians."""
    layout = padchest(root)
    layout.options, layout.split = {}, "physicians"
    table = next(root.glob("*.csv"))
    read = _read_rows(table)
    (table.parent / f"{table.name}.gz").write_bytes(gzip.compress(table.read_bytes()))
    table.unlink()
    (root / "images").mkdir()
    for one, file in layout.files.items():
        layout.files[one] = file.rename(root / "images" / file.name)
    for row in read:
        one, patient = row[1], row[4]
        tested = splits.draw([patient] * 2, 0.2, "padchest test")  # of its own name alone
        out = row[7] in ("L", "COSTAL") or (tested[0] and row[8] != "Physician")
        for facts in (layout.expected, layout.files, layout.patients, layout.labels):
            if out:
                facts.pop(one, None)
    return layout


def vindr(root: Path) -> Layout:
    """Three readers per training image, one row per test image, boxes by each of them."""
    layout = Layout("vindr", root, notes=True)
    names = [*findings.VINDR_27[:26], "Other diseases", "No finding"]
    votes, boxes, tests, test_boxes = [], [], [], []
    for number in range(50):
        one = f"{number * 2654435761 % 2**32:032x}"
        part = "test" if number >= 38 else "train"
        file = root / part / f"{one}.dicom"
        layout.expected[one], layout.files[one] = body_image(number), file
        save_dicom(file, body_image(number), inverted=number % 10 == 0)
        layout.patients[one] = one
        marked = {findings.VINDR[number * 3 % 14], "Pneumonia"} if number % 2 else set()
        doubted = {findings.VINDR[(number * 3 + 1) % 14]}
        layout.labels[one] = {name for name in marked if name in findings.VINDR}
        readers = range(3) if part == "train" else [3]
        for reader in readers:
            seen = set(marked) if reader else marked & {"Pneumonia"}
            seen |= doubted if reader == 1 else set()
            cells = [int(name in seen or (name == "No finding" and not seen)) for name in names]
            drawn = sorted(seen & set(findings.VINDR))
            place: list[list[Any]] = [
                [one, name, 4.0, 5.5, 20.25, 30.0 + reader] for name in drawn
            ] or [[one, "No finding", "", "", "", ""]]
            if part == "train":
                votes.append([one, f"R{reader + number % 15}", *cells])
                boxes += [[row[0], f"R{reader + number % 15}", *row[1:]] for row in place]
            else:
                tests.append([one, *cells])
                test_boxes += place
        if layout.labels[one]:
            layout.boxes[one] = 2 if part == "train" else 1
    folder = root / "annotations"
    header = ",".join(names)
    _write_rows(folder / "image_labels_train.csv", f"image_id,rad_id,{header}", votes)
    header = header.replace("Other diseases", "Other disease")
    _write_rows(folder / "image_labels_test.csv", f"image_id,{header}", tests)
    edges = "class_name,x_min,y_min,x_max,y_max"
    _write_rows(folder / "annotations_train.csv", f"image_id,rad_id,{edges}", boxes)
    _write_rows(folder / "annotations_test.csv", f"image_id,{edges}", test_boxes)
    return layout


def rsna(root: Path) -> Layout:
    """JPEG DICOM, some MONOCHROME1; several rows per image that has several boxes."""
    layout = Layout("rsna", root, tolerance=6, notes=True)
    rows, classes = [], []
    for number in range(40):
        one = f"{number:08d}-aaaa-bbbb-cccc-0123456789ab"
        file = root / "stage_2_train_images" / f"{one}.dcm"
        layout.expected[one] = body_image(number)
        save_dicom(file, layout.expected[one], inverted=number % 10 == 0, jpeg=True)
        layout.files[one], layout.patients[one] = file, one
        positive = number % 3 == 0
        layout.labels[one] = {"Pneumonia"} if positive else set()
        if positive:
            layout.boxes[one] = 1 + number % 2
            rows += [[one, 4.0 + 8 * k, 5.5, 10.0, 12.25, 1] for k in range(layout.boxes[one])]
        else:
            rows.append([one, "", "", "", "", 0])
        classes.append([one, "Lung Opacity" if positive else "Normal"])
    _write_rows(root / "stage_2_train_labels.csv", "patientId,x,y,width,height,Target", rows)
    _write_rows(root / "stage_2_detailed_class_info.csv", "patientId,class", classes)
    return layout


def rsna_paper(root: Path) -> Layout:
    """The published lists, whose test images have no row among the challenge's labels."""
    layout = rsna(root)
    layout.split = "paper"
    (root / "stage_2_test_images").mkdir()
    lists: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for number, (one, file) in enumerate(list(layout.files.items())):
        split = "test" if number >= 30 else "val" if number >= 25 else "train"
        images = "stage_2_test_images" if split == "test" else "stage_2_train_images"
        layout.files[one] = file.rename(root / images / file.name)
        lists[split].append(f"{images}/{file.name} {int(bool(layout.labels[one]))} ")
    kept = [row for row in _read_rows(root / "stage_2_train_labels.csv") if int(row[0][:8]) < 30]
    _write_rows(root / "stage_2_train_labels.csv", "patientId,x,y,width,height,Target", kept)
    layout.boxes = {one: n for one, n in layout.boxes.items() if int(one[:8]) < 30}
    folder = root / "RSNA_Pneumonia"
    folder.mkdir()
    for split, lines in lists.items():
        (folder / f"{split}_list.txt").write_text("\n".join(lines))
    return layout


def folder_classes(root: Path) -> Layout:
    """Class folders below ``train`` alone, as in Kermany et al.; patients in the file names."""
    layout = Layout("folder", root, tolerance=6)
    layout.options = {"patient": r"(person\d+|(?:NORMAL2-)?IM-\d+)"}
    for number in range(60):
        patient = number // 2
        if patient % 3:
            name = f"train/PNEUMONIA/person{patient}_bacteria_{number}.jpeg"
            layout.patients[name], layout.labels[name] = f"person{patient}", {"PNEUMONIA"}
        else:
            name = f"train/NORMAL/NORMAL2-IM-{patient:04d}-000{number}.jpeg"
            layout.patients[name], layout.labels[name] = f"NORMAL2-IM-{patient:04d}", set()
        layout.expected[name], layout.files[name] = body_image(number), root / name
        save(root / name, layout.expected[name])
    (root / "train" / "NORMAL" / ".DS_Store").write_bytes(b"x")
    (root / "train" / "NORMAL" / "Thumbs.db").write_bytes(b"x")
    return layout


def folder_flat(root: Path) -> Layout:
    """Class folders without splits or patients, of mixed formats."""
    layout = Layout("folder", root, notes=True)
    for number in range(45):
        group = ("no_finding", "Effusion", "Mass")[number % 3]
        name = f"{group}/{number:03d}.{('png', 'tif', 'bmp')[number % 3]}"
        layout.labels[name] = set() if group == "no_finding" else {group}
        layout.patients[name] = name
        layout.expected[name], layout.files[name] = body_image(number), root / name
        save(root / name, layout.expected[name])
    return layout


def folder_table(root: Path) -> Layout:
    """Semicolons, a byte order mark, words for labels, splits and patients in columns."""
    layout = Layout("folder", root)
    rows = []
    for number in range(50):
        name, patient = f"images/{number:03d}.png", f"P{number // 2:03d}"
        marked = {one for k, one in enumerate(("Edema", "Fracture")) if number % (k + 2) == 0}
        unknown = number % 9 == 4
        cells = ["yes" if one in marked else "no" for one in ("Edema", "Fracture")]
        split = ("training", "training", "training", "valid", "test")[number // 2 % 5]
        rows.append(
            [name, patient, split, "male", 44, "seen", cells[0], "" if unknown else cells[1]]
        )
        layout.patients[name] = patient
        layout.labels[name] = marked - ({"Fracture"} if unknown else set())
        layout.expected[name], layout.files[name] = body_image(number), root / name
        save(root / name, layout.expected[name])
    header = "Filename;Patient ID;Set;Gender;Age;Remark;Edema;Fracture"
    _write_rows(root / "labels.csv", header, rows, separator=";", encoding="utf-8-sig")
    return layout


def folder_described(root: Path) -> Layout:
    """A JSON file elsewhere describes a folder that cannot be written to."""
    layout = folder_classes(root / "images")
    about = {"folder": "images", "title": "Children", "findings": {"PNEUMONIA": "Pneumonia"}}
    layout.root = root / "children.json"
    layout.root.write_text(json.dumps(about | layout.options))
    layout.options = {}
    layout.labels = {
        one: {"Pneumonia"} if marked else set() for one, marked in layout.labels.items()
    }
    return layout


def chestmnist(root: Path) -> Layout:
    """MedMNIST's npz, 14 labels per image."""
    return _medmnist(root, "chestmnist", findings.NIH, compressed=True)


def pneumoniamnist(root: Path) -> Layout:
    """MedMNIST's npz, one label per image, not compressed."""
    return _medmnist(root, "pneumoniamnist", findings.RSNA, compressed=False)


def _medmnist(root: Path, flag: str, names: tuple[str, ...], *, compressed: bool) -> Layout:
    layout = Layout(flag, root, notes=True)
    arrays: dict[str, Any] = {}
    for split, count in {"train": 30, "val": 12, "test": 15}.items():
        images, labels = [], np.zeros((count, len(names)), np.uint8)
        for number in range(count):
            one = f"{split}-{number:06d}"
            marked = {names[number % len(names)]} if number % 2 else set()
            labels[number] = [name in marked for name in names]
            layout.labels[one], layout.patients[one] = marked, one
            layout.expected[one] = body_image(number, 28, 28)
            images.append(layout.expected[one])
        arrays |= {f"{split}_images": np.stack(images), f"{split}_labels": labels}
    root.mkdir(parents=True, exist_ok=True)
    (np.savez_compressed if compressed else np.savez)(root / f"{flag}.npz", **arrays)
    return layout


def edit_table(path: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    """Change the cells of a CSV file, all read as text."""
    change(pd.read_csv(path, dtype=str, keep_default_na=False)).to_csv(path, index=False)


def _write_rows(
    path: Path, header: str, rows: list[list[Any]], separator: str = ",", encoding: str = "utf-8"
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    opened = gzip.open if path.suffix == ".gz" else Path.open
    with opened(path, "wt", newline="", encoding=encoding) as file:
        file.write(header + "\n")
        csv.writer(file, delimiter=separator, lineterminator="\n").writerows(rows)


def _read_rows(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))[1:]


LAYOUTS: dict[str, Callable[[Path], Layout]] = {
    "nih": nih,
    "nih-paper": nih_paper,
    "chexpert": chexpert,
    "chexpert-full": chexpert_full,
    "chexpert-paper": chexpert_paper,
    "mimic": mimic,
    "mimic-frontal": mimic_frontal,
    "padchest": padchest,
    "padchest-physicians": padchest_physicians,
    "vindr": vindr,
    "rsna": rsna,
    "rsna-paper": rsna_paper,
    "folder-classes": folder_classes,
    "folder-flat": folder_flat,
    "folder-table": folder_table,
    "folder-described": folder_described,
    "chestmnist": chestmnist,
    "pneumoniamnist": pneumoniamnist,
}
