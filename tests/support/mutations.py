"""Damage files in many ways and read them: a program that ``test_fuzz.py`` runs.

``python mutations.py KIND COUNT SEED FOLDER`` prints a JSON object: the number of files that were
read, the number that were rejected with a ``CoreError``, and every fault: another exception, access
to a file outside of ``FOLDER``, a new process. A file that takes too long ends the program with a
traceback.
"""

from __future__ import annotations

import faulthandler
import io
import json
import os
import resource
import struct
import sys
import traceback
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))

from core.data.datasets.registry import open_dataset
from core.data.images.dicom import read_attributes
from core.data.images.reader import read_image
from core.errors import CoreError
from tests.support.layouts import LAYOUTS, body_image, encoded, save_dicom

SECONDS_PER_FILE = 30
MEMORY = 4 << 30
GREY = body_image(7)
ODD_NUMBERS = (0, 1, 2, 7, 9, 127, 128, 255, 256, 32767, 32768, 65535)

Draw = np.random.Generator


# --- any bytes -----------------------------------------------------------------------------------


def flipped(content: bytes, draw: Draw) -> bytes:
    """Some bytes replaced."""
    changed = bytearray(content)
    for place in draw.integers(0, len(changed), draw.integers(1, 12)):
        changed[place] = int(draw.choice([0, 1, 127, 128, 255, int(draw.integers(256))]))
    return bytes(changed)


def cut(content: bytes, draw: Draw) -> bytes:
    """The end is missing."""
    return content[: draw.integers(0, len(content))]


def spliced(content: bytes, draw: Draw) -> bytes:
    """A piece is doubled, left out, or stands elsewhere."""
    start, end = sorted(draw.integers(0, len(content), 2))
    at = draw.integers(0, len(content))
    piece = content[start : min(end, start + 2000)]
    rest = content if draw.random() < 0.5 else content[:start] + content[start + len(piece) :]
    return rest[:at] + piece + rest[at:]


def lengthened(content: bytes, draw: Draw) -> bytes:
    """A length somewhere becomes another: two or four bytes, either order."""
    kind = str(draw.choice(["<H", ">H", "<I", ">I"]))
    at = int(draw.integers(0, max(1, len(content) - 4)))
    value = int(draw.choice(ODD_NUMBERS)) if kind[1] == "H" else int(draw.integers(2**32))
    packed = struct.pack(kind, value)
    return content[:at] + packed + content[at + len(packed) :]


ANY = (flipped, cut, spliced, lengthened)


def damaged(content: bytes, draw: Draw) -> bytes:
    """One of the above, now and then two."""
    for _ in range(draw.integers(1, 3)):
        if content:
            content = ANY[draw.integers(len(ANY))](content, draw)
    return content


# --- images ------------------------------------------------------------------------------------


def pngs() -> list[bytes]:
    grey = Image.fromarray(GREY)
    return [
        *(encoded(grey.convert(mode), "PNG") for mode in ("L", "LA", "RGB", "RGBA", "P", "1")),
        encoded(Image.fromarray(GREY.astype(np.uint16) * 200), "PNG"),
    ]


def chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 8
    while at + 8 <= len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        found.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += length + 12
    return found


def png(seeds: list[bytes], draw: Draw) -> bytes:
    """Damaged below its checksums, too: a chunk is changed and its checksum made right."""
    whole = seeds[draw.integers(len(seeds))]
    if draw.random() < 0.4:
        return damaged(whole, draw)
    parts = chunks(whole)
    at = int(draw.integers(len(parts)))
    name, data = parts[at]
    way = draw.integers(5)
    if way == 0:
        head = bytearray(parts[0][1])
        place = draw.integers(2)
        if draw.random() < 0.6:
            head[4 * place : 4 * place + 4] = struct.pack(
                ">I", draw.choice([0, 1, 40, 9000, 2**31])
            )
        else:
            head[8 + draw.integers(5)] = draw.choice([0, 1, 2, 3, 4, 6, 8, 16, 255])
        parts[0] = (b"IHDR", bytes(head))
    elif way == 1 and data:
        parts[at] = (name, damaged(data, draw))
    elif way == 2:
        order = draw.permutation(len(parts))
        parts = [parts[i] for i in order]
    elif way == 3:
        inside = bytearray(zlib.decompress(b"".join(d for n, d in parts if n == b"IDAT")))
        rows = damaged(bytes(inside), draw)
        parts = [(n, zlib.compress(rows) if n == b"IDAT" else d) for n, d in parts]
    else:
        extra = str(draw.choice(["zTXt", "iTXt", "iCCP", "eXIf", "tRNS", "PLTE", "acTL", "fdAT"]))
        bomb = zlib.compress(b"\0" * 5_000_000) if draw.random() < 0.3 else draw.bytes(40)
        parts.insert(1, (extra.encode(), b"key\0\0" + bomb))
    packed = [
        struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in parts
    ]
    return whole[:8] + b"".join(packed)


def jpegs() -> list[bytes]:
    grey = Image.fromarray(GREY)
    exif = Image.Exif()
    exif[0x0112] = 6
    return [
        encoded(grey, "JPEG", exif=exif), encoded(grey.convert("RGB"), "JPEG"),
        encoded(grey.convert("CMYK"), "JPEG"), encoded(grey, "JPEG", progressive=True),
        encoded(grey, "TIFF"), encoded(grey, "TIFF", compression="tiff_lzw"),
        encoded(grey.convert("CMYK"), "TIFF"), encoded(grey, "BMP"),
    ]  # fmt: skip


def jpeg(seeds: list[bytes], draw: Draw) -> bytes:
    """JPEG, TIFF and BMP; the segments of a JPEG are changed one by one, too."""
    whole = seeds[draw.integers(len(seeds))]
    if whole[:2] != b"\xff\xd8" or draw.random() < 0.5:
        return damaged(whole, draw)
    marks = [i for i in range(len(whole) - 4) if whole[i] == 0xFF and 0xC0 <= whole[i + 1] < 0xFF]
    at = marks[draw.integers(len(marks))]
    changed = bytearray(whole)
    if draw.random() < 0.5:
        changed[at + 1] = draw.integers(0xC0, 0xFF)
    else:
        place = at + int(draw.integers(2, 12))
        changed[place : place + 2] = struct.pack(">H", int(draw.choice(ODD_NUMBERS)))
    return bytes(changed)


def try_image(content: bytes, place: Path) -> None:
    file = place / "a.png"
    file.write_bytes(content)
    for found in (read_image(file, 32), read_image(content)):
        assert found.dtype == np.uint8
        assert found.ndim == 2


# --- DICOM ---------------------------------------------------------------------------------------


def dicoms() -> list[bytes]:
    found = []
    for jpeg_coded in (False, True):
        for pixels in (GREY, GREY.astype(np.uint16) * 16, GREY.astype(np.int16) - 100):
            if jpeg_coded and pixels.dtype != np.uint8:
                continue
            file = Path("seed.dcm")
            save_dicom(file, pixels, jpeg=jpeg_coded, WindowCenter=100, WindowWidth=200,
                       RescaleSlope=1, RescaleIntercept=0, PixelPaddingValue=0)  # fmt: skip
            found.append(file.read_bytes())
            file.unlink()
    return found


KEYWORDS = (
    "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "SamplesPerPixel",
    "PixelRepresentation", "NumberOfFrames", "PhotometricInterpretation", "WindowCenter",
    "WindowWidth", "RescaleSlope", "RescaleIntercept", "PixelPaddingValue", "VOILUTFunction",
    "PatientAge", "PatientSex", "ViewPosition", "PixelData",
)  # fmt: skip
WORDS = (
    "MONOCHROME1",
    "RGB",
    "PALETTE COLOR",
    "YBR_FULL_422",
    "",
    "1\\2",
    "nan",
    "1e400",
    "-0",
    "X",
)


def dicom(seeds: list[bytes], draw: Draw) -> bytes:
    """Elements set to values of another kind or size, or bytes damaged."""
    whole = seeds[draw.integers(len(seeds))]
    if draw.random() < 0.4:
        return (
            whole[:140] + damaged(whole[140:], draw)
            if draw.random() < 0.7
            else damaged(whole, draw)
        )
    file = pydicom.dcmread(io.BytesIO(whole))
    packed = io.BytesIO()
    try:
        for _ in range(draw.integers(1, 4)):
            keyword = KEYWORDS[draw.integers(len(KEYWORDS))]
            way = draw.integers(4)
            if way == 0 and keyword in file:
                delattr(file, keyword)
            elif way == 1 and keyword == "PixelData":
                file.PixelData = damaged(file.PixelData, draw)
            elif way == 2:
                setattr(file, keyword, WORDS[draw.integers(len(WORDS))])
            else:
                setattr(file, keyword, int(draw.choice(ODD_NUMBERS)))
        if draw.random() < 0.2:
            names = ("1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.4.50",
                     "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.5", "9.9")  # fmt: skip
            file.file_meta.TransferSyntaxUID = pydicom.uid.UID(names[draw.integers(len(names))])
        if draw.random() < 0.2:
            table = pydicom.Dataset()
            table.LUTDescriptor = [int(one) for one in draw.choice(ODD_NUMBERS, 3)]
            table["LUTDescriptor"].VR = "US"
            table.add_new("LUTData", "OW", draw.bytes(int(draw.integers(0, 50)) * 2))
            file.VOILUTSequence = [table]
        pydicom.dcmwrite(packed, file, implicit_vr=False, little_endian=True)
    except Exception:  # it cannot be written so
        return damaged(whole, draw)
    return packed.getvalue()


def try_dicom(content: bytes, place: Path) -> None:
    file = place / "a.dcm"
    file.write_bytes(content)
    read_attributes(file)
    for found in (read_image(file, 32), read_image(file)):
        assert found.dtype == np.uint8
        assert found.ndim == 2


# --- tables --------------------------------------------------------------------------------------

CELLS = (
    b'"', b'""', b"'", b",", b";", b"\t", b"|", b"\n", b"\r", b"\0", b"\xff\xfe", b"\xef\xbb\xbf",
    b"../secret/secret.png", b"/etc/passwd", b"..\\secret\\secret.png", b"C:\\secret.png", b"~",
    b"yes", b"-1", b"1e400", b"nan", b"\xed\xa0\x80", b"a" * 5000, b"9" * 400, b"%s%n{0}", b"[]",
    b'{"a": 1}', b"=1+1", b"null", b"\xc3\xa4", b" ", b"0x1", b"1_0", b"1.5.2",
)  # fmt: skip


def table(whole: bytes, draw: Draw) -> bytes:
    """Rows and cells of a text changed, or its bytes."""
    way = draw.integers(5)
    lines = whole.split(b"\n")
    if way == 0:
        return damaged(whole, draw)
    if way == 1:  # rows doubled, lost, out of order
        order = draw.integers(0, len(lines), len(lines))
        return b"\n".join([lines[0], *(lines[i] for i in order)])
    if way == 2:  # a column fewer or more
        at = draw.integers(1, 5)
        return b"\n".join(b",".join(line.split(b",")[: -int(at)]) for line in lines)
    for _ in range(draw.integers(1, 5)):
        row = int(draw.integers(len(lines)))
        cells = lines[row].split(b",")
        word = CELLS[draw.integers(len(CELLS))]
        place = int(draw.integers(len(cells)))
        cells[place] = word if way == 3 else cells[place] + word
        lines[row] = b",".join(cells)
    return b"\n".join(lines)


class Tables:
    """Layouts of data sets, one text of which is damaged at a time."""

    def __init__(self, place: Path) -> None:
        made = {name: LAYOUTS[name] for name in LAYOUTS if "mnist" not in name}
        self.layouts = [make(place / name) for name, make in made.items()]
        (place / "secret").mkdir()
        Image.fromarray(GREY).save(place / "secret" / "secret.png")
        self.texts = [
            (layout, file)
            for layout in self.layouts
            for file in sorted(self._top(layout.root).rglob("*"))
            if file.suffix in (".csv", ".txt", ".json", ".gz") and file.is_file()
        ]

    @staticmethod
    def _top(root: Path) -> Path:
        return root.parent if root.is_file() else root

    def try_one(self, draw: Draw) -> None:
        layout, file = self.texts[draw.integers(len(self.texts))]
        whole = file.read_bytes()
        file.write_bytes(table(whole, draw))
        try:
            dataset = open_dataset(layout.name, layout.root, layout.split, **layout.options)
            for one in dataset.table.index[:2]:
                dataset.read(str(one), 16)
                dataset.study(str(one))
        finally:
            file.write_bytes(whole)


# --- npz -----------------------------------------------------------------------------------------


def npzs() -> list[bytes]:
    arrays: dict[str, Any] = {}
    for split, count in {"train": 6, "val": 3, "test": 3}.items():
        arrays[f"{split}_images"] = np.stack([body_image(i, 28, 28) for i in range(count)])
        arrays[f"{split}_labels"] = (np.arange(count) % 2).astype(np.uint8)[:, None]
    found = []
    for save in (np.savez, np.savez_compressed):
        packed = io.BytesIO()
        save(packed, **arrays)
        found.append(packed.getvalue())
    return found


HEADS = (
    "{'descr': '|u1', 'fortran_order': False, 'shape': (%d, 28, 28), }",
    "{'descr': '|u1', 'fortran_order': True, 'shape': (6, 28, 28), }",
    "{'descr': '|O', 'fortran_order': False, 'shape': (6, 28, 28), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (6, 28, 28), }",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 28, 28), }",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (6, 99999999, 99999999), }",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (), }",
    "{'descr': [('a', '|u1'), ('b', 'O')], 'fortran_order': False, 'shape': (6,), }",
    "{'descr': __import__('os').system('true'), 'shape': (6, 28, 28), }",
    "not a header",
    "(" * 300,
)


def npz(seeds: list[bytes], draw: Draw) -> bytes:
    """Members damaged within a whole archive, or the archive itself."""
    whole = seeds[draw.integers(len(seeds))]
    if draw.random() < 0.4:
        return damaged(whole, draw)
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    chosen = sorted(members)[draw.integers(len(members))]
    way = draw.integers(5)
    if way == 0:
        members[chosen] = damaged(members[chosen], draw)
    elif way == 1:
        text = HEADS[draw.integers(len(HEADS))].replace(
            "%d", str(draw.choice([0, 7, 2**31, 2**62]))
        )
        text = text.ljust(117) + "\n"
        version = bytes([int(draw.choice([1, 1, 2, 3, 9])), 0])
        size = struct.pack("<H" if version[0] == 1 else "<I", len(text))
        members[chosen] = b"\x93NUMPY" + version + size + text.encode() + members[chosen][128:]
    elif way == 2:
        del members[chosen]
    elif way == 3:
        members[chosen] = members[chosen][:128] + b"\0" * 3_000_000
    else:
        members[f"../../{chosen}"] = members.pop(chosen)
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return packed.getvalue()


def read_npz(content: bytes, place: Path) -> None:
    file = place / "pneumoniamnist.npz"
    file.write_bytes(content)
    dataset = open_dataset("pneumoniamnist", file)
    for one in (dataset.table.index[0], dataset.table.index[-1]):
        assert dataset.read(str(one)).dtype == np.uint8


# --- the program ---------------------------------------------------------------------------------

KINDS: dict[str, tuple[Callable[[], list[bytes]], Any, Callable[[bytes, Path], None]]] = {
    "png": (pngs, png, try_image),
    "jpeg": (jpegs, jpeg, try_image),
    "dicom": (dicoms, dicom, try_dicom),
    "npz": (npzs, npz, read_npz),
}


def cases(kind: str, place: Path) -> Iterator[Callable[[Draw], None]]:
    """Endless trials of one kind."""
    if kind == "tables":
        tables = Tables(place)
        while True:
            yield tables.try_one
    make, mutate, read = KINDS[kind]
    seeds = make()
    while True:
        yield lambda draw: read(mutate(seeds, draw), place)


TOUCHING = frozenset(
    {"os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.chmod",
     "os.truncate", "shutil.rmtree"}
)  # fmt: skip
STARTING = frozenset(
    {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "socket.connect"}
)


def whole(path: Any) -> str:
    """Absolute, links not followed: the hook must not open anything itself."""
    return os.path.normpath(os.path.join(os.getcwd(), os.fsdecode(path)))  # noqa: PTH109, PTH118


def watch(place: Path, faults: list[str]) -> None:
    """Note what must not happen while a file is read."""
    top = f"{place}{os.sep}"

    def hook(event: str, given: tuple[Any, ...]) -> None:
        if event in STARTING:
            faults.append(f"{event} {given!r:.200}")
        elif event == "open" and isinstance(given[0], (str, bytes)):
            path = whole(given[0])
            writes = bool((given[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))
            if (writes and not path.startswith(top)) or "secret" in path or path == "/etc/passwd":
                faults.append(f"opened {path}")
        elif event in TOUCHING:
            path = whole(given[0])
            if not path.startswith(top):
                faults.append(f"{event} {path}")

    sys.addaudithook(hook)


def main() -> None:
    """Try one kind of files and print what became of them."""
    kind, count, seed, place = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")  # what a user would see on standard error is no fault
    os.chdir(place)
    faults: list[str] = []
    read = refused = 0
    trials = cases(kind, place)
    first = next(trials)
    watch(place, faults)
    for number in range(count):
        trial = first if number == 0 else next(trials)
        faulthandler.dump_traceback_later(SECONDS_PER_FILE, exit=True)
        before = len(faults)
        try:
            trial(np.random.default_rng([seed, number]))
            read += 1
        except CoreError as error:
            refused += 1
            if not error.cause or not error.remedy:
                faults.append(f"without cause or remedy: {error!r}")
        except Exception:
            faults.append(traceback.format_exc())
        faults[before:] = [f"file {number}: {one}" for one in faults[before:]]
        if len(faults) > 20:
            break
    faulthandler.cancel_dump_traceback_later()
    print(json.dumps({"read": read, "refused": refused, "faults": faults}))


if __name__ == "__main__":
    main()
