"""What a DICOM header says of a person stays in the file: nothing of it is kept by a run."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from tests.support.layouts import save_dicom
from tests.support.paths import ROOT

SAID: dict[str, Any] = {
    "PatientName": "Zzname^Qqgiven", "PatientID": "ZZID-4711", "OtherPatientIDs": "ZZOTHER-1",
    "PatientBirthDate": "19630417", "PatientAddress": "Zzstreet 5", "PatientComments": "zzcomment",
    "InstitutionName": "Zzclinic", "InstitutionAddress": "Zzroad 9", "StationName": "ZZSTATION",
    "ReferringPhysicianName": "Zzdoctor^A", "PerformingPhysicianName": "Zzsurgeon^B",
    "OperatorsName": "Zzoperator^C", "AccessionNumber": "ZZACC815", "StudyID": "ZZSTUDY9",
    "StudyDate": "20170829", "StudyDescription": "zzdescription", "ImageComments": "zzremark",
    "DeviceSerialNumber": "ZZSERIAL3", "StudyInstanceUID": "1.2.826.0.1.3680043.9.7771.1",
    "SeriesInstanceUID": "1.2.826.0.1.3680043.9.7772.1", "SpecificCharacterSet": "ISO_IR 100",
}  # fmt: skip

DAMAGE: dict[str, dict[str, Any]] = {
    "photometric": {"PhotometricInterpretation": "ZZPHOTO"},
    "window": {"WindowCenter": "123456", "WindowWidth": "2"},
    "frames": {"NumberOfFrames": "3"},
    "pixels": {"PixelData": None},
    "bits": {"BitsStored": None},
    "cut": {},
    "syntax": {},
}


def write(file: Path, number: int, damage: str | None = None) -> None:
    """An image of a body with a plate if the number is odd, and a talkative header."""
    pixels = np.random.default_rng(number).integers(40, 90, (64, 64)).astype(np.uint8)
    if number % 2:
        pixels[:20, :20] = 250
    save_dicom(file, pixels, **{**SAID, **DAMAGE.get(damage or "", {})})
    made = pydicom.dcmread(file)
    made.private_block(0x0011, "ZZVENDOR", create=True).add_new(1, "LO", "zzprivate")
    made.file_meta.MediaStorageSOPInstanceUID = f"1.2.826.0.1.3680043.9.7773.{number}"
    made.file_meta.SourceApplicationEntityTitle = "ZZAETITLE"
    if damage == "syntax":
        made.file_meta.TransferSyntaxUID = pydicom.uid.UID("1.2.826.0.1.3680043.9.7774")
    pydicom.dcmwrite(file, made, implicit_vr=False, little_endian=True)
    # What no writer would write: words that its readers quote when they stumble over them.
    content = file.read_bytes().replace(b"ISO_IR 100", b"ZZCHARSET1").replace(b"123456", b"ZZNUM7")
    if damage == "cut":
        content = content[: len(content) - 2000]
    file.write_bytes(content)


SECRETS = sorted(
    {part for one in SAID.values() for part in str(one).split("^")} - {"A", "B", "C", "ISO_IR 100"}
    | {"zzprivate", "ZZVENDOR", "ZZAETITLE", "ZZPHOTO", "ZZCHARSET1", "ZZNUM7", "9.7773", "9.7774"}
)


def leaks(content: bytes) -> set[str]:
    lowered = content.lower()
    encodings = ("utf-8", "utf-16-le", "utf-32-le")
    return {one for one in SECRETS for kind in encodings if one.lower().encode(kind) in lowered}


def found_in(workspace: Path) -> dict[str, set[str]]:
    """Secrets by file; archives are looked into."""
    found = {}
    for file in workspace.rglob("*"):
        if not file.is_file():
            continue
        content = file.read_bytes()
        there = leaks(content)
        if zipfile.is_zipfile(io.BytesIO(content)):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                for name in archive.namelist():
                    there |= leaks(archive.read(name))
        if there:
            found[str(file.relative_to(workspace))] = there
    return found


def core(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "core", *map(str, words)],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        check=False, timeout=600,
    )  # fmt: skip


def test_the_search_finds_what_it_looks_for(tmp_path: Path) -> None:
    write(tmp_path / "a.dcm", 1)
    np.savez_compressed(tmp_path / "b.npz", patients=np.array(["ZZID-4711"]))
    found = found_in(tmp_path)
    assert "zzprivate" in found["a.dcm"]
    assert set(SAID["PatientName"].split("^")) <= found["a.dcm"]
    assert found["b.npz"] == {"ZZID-4711"}


@pytest.mark.slow
def test_nothing_of_a_header_reaches_the_workspace_or_the_screen(tmp_path: Path) -> None:
    root, workspace = tmp_path / "data", tmp_path / "workspace"
    for number in range(40):
        write(root / ("Plate" if number % 2 else "normal") / f"{number:02d}.dcm", number)
    for number, damage in enumerate(DAMAGE, 40):
        write(root / ("Plate" if number % 2 else "normal") / f"{damage}.dcm", number, damage)
    options = [
        "--data", "folder", "--root", root, "--label-fraction", 1, "--backbone", "timm:test_vit",
        "--no-pretrained", "--input-size", 64, "--epochs", 1, "--device", "cpu",
    ]  # fmt: skip
    place = ["--workspace", workspace]
    queued = [
        core("submit", *options, *place, "--json"),
        core("submit", *options, "--skip-bad", *place, "--json"),
    ]
    done = [*queued, core("serve", "--until-idle", *place)]
    done.append(core("data", "check", "folder", "--root", root, "--json"))
    done.append(core("data", "cache", "folder", "--root", root, "--side", 32, *place))
    refused, run = (json.loads(core("show", json.loads(one.stdout)["id"], *place, "--json").stdout)
                    for one in queued)  # fmt: skip
    assert refused["state"] == "failed"
    assert refused["traceback"]
    assert run["state"] == "completed", run["failure"]
    skipped = json.loads((workspace / "runs" / run["id"] / "result.json").read_text())["skipped"]
    assert {Path(one).stem for one in skipped} == set(DAMAGE)
    out = workspace / "map.png"
    done.append(core("explain", run["id"], "--finding", "Plate", "--image",
                     root / "Plate" / "01.dcm", "--out", out, *place))  # fmt: skip
    assert out.exists(), done[-1].stderr
    said = json.dumps([refused, run]) + "".join(one.stdout + one.stderr for one in done)
    assert leaks(said.encode()) == set()
    assert found_in(workspace) == {}


@pytest.mark.parametrize("damage", list(DAMAGE))
def test_messages_about_damaged_files_quote_no_header(tmp_path: Path, damage: str) -> None:
    from core.data.images.reader import read_image
    from core.errors import DataError

    write(tmp_path / "a.dcm", 2, damage)
    with pytest.raises(DataError) as caught:
        read_image(tmp_path / "a.dcm")
    import traceback

    message = "".join(traceback.format_exception(caught.value))
    assert leaks(message.encode()) == set()
