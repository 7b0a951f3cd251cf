"""Every data set by name. Importing this loads no data set, and nothing heavy."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.data import findings, problems
from core.errors import DataError, unknown_name

if TYPE_CHECKING:
    from core.config.run import DataSpec
    from core.data.base import ChestDataset


@dataclass(frozen=True)
class Option:
    """One thing that can be chosen about a data set; its name is a field of ``DataSpec``.

    Attributes:
        label: What it is, for people.
        choices: What each value means, the default first; empty if it is free text.
        example: A value, where it is free text.
    """

    label: str
    choices: Mapping[str, str] = field(default_factory=dict)
    example: str = ""


@dataclass(frozen=True)
class DatasetEntry:
    """What is known of a data set before it is opened.

    Attributes:
        title: Its name for people.
        module: The module that holds its class.
        kind: Name of the class.
        findings: Names of the labels; empty where the folder decides.
        sentence: What it is, in one sentence.
        licence: Under which terms the pictures may be used.
        needs_root: Whether the user has to name a folder.
        splits: The splits one can choose from, the default first; empty if there is but one.
        options: What else one can choose, by name of the class's argument.
        arguments: Further arguments of the class.
    """

    title: str
    module: str
    kind: str
    findings: tuple[str, ...]
    sentence: str
    licence: str
    needs_root: bool
    splits: tuple[str, ...] = ()
    options: Mapping[str, Option] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)


PATIENT = Option(
    "Pattern of the patient in a picture's path (regular expression)", example=r"(person\d+|IM-\d+)"
)
TABLE = Option("CSV file with the labels, where there are several", example="labels.csv")
COLUMNS = Option(
    "Columns, where their names do not say it", example="path=File, patient=PatID, split=Fold"
)
LABELS = Option("Columns or class folders that are findings", example="Edema, Fx=Fracture")

UNCERTAINTY = Option(
    "Labels marked uncertain",
    {
        "mixed": "the paper's rule, finding by finding",
        "ones": "count as present",
        "zeros": "count as absent",
        "ignore": "are left out",
    },
)
ALL, FRONTAL = {"all": "all"}, {"frontal": "frontal only"}

DATASETS: dict[str, DatasetEntry] = {
    "phantom-14": DatasetEntry(
        title="Phantoms, 14 findings",
        module="core.data.phantoms.dataset",
        kind="Phantom",
        findings=findings.NIH,
        sentence="Generated radiographs with the 14 findings of NIH ChestX-ray14, with masks.",
        licence="MIT (generated)",
        needs_root=False,
        arguments={"name": "phantom-14"},
    ),
    "phantom-5": DatasetEntry(
        title="Phantoms, 5 findings",
        module="core.data.phantoms.dataset",
        kind="Phantom",
        findings=findings.CHEXPERT,
        sentence="Generated radiographs with the 5 findings of CheXpert, with masks.",
        licence="MIT (generated)",
        needs_root=False,
        arguments={"name": "phantom-5"},
    ),
    "phantom-1": DatasetEntry(
        title="Phantoms, pneumonia",
        module="core.data.phantoms.dataset",
        kind="Phantom",
        findings=findings.RSNA,
        sentence="Generated radiographs with or without pneumonia, with masks.",
        licence="MIT (generated)",
        needs_root=False,
        arguments={"name": "phantom-1"},
    ),
    "nih": DatasetEntry(
        title="NIH ChestX-ray14",
        module="core.data.datasets.nih",
        kind="Nih",
        findings=findings.NIH,
        sentence="112,120 frontal radiographs of 30,805 patients, 14 findings mined from reports, "
        "boxes for 8 of them on 880 images.",
        licence="Free to use with attribution to the NIH Clinical Center",
        needs_root=True,
        splits=("official", "paper"),
    ),
    "chexpert": DatasetEntry(
        title="CheXpert",
        module="core.data.datasets.chexpert",
        kind="Chexpert",
        findings=findings.CHEXPERT,
        sentence="224,316 frontal and lateral radiographs of 65,240 patients; 14 findings mined "
        "from reports, uncertain ones marked; validation and test labels by radiologists.",
        licence="Stanford University Dataset Research Use Agreement",
        needs_root=True,
        splits=("official", "paper"),
        options={
            "findings": Option("Findings", {"5": "the 5 of the competition", "14": "all 14"}),
            "uncertainty": UNCERTAINTY,
            "views": Option("Views", ALL | FRONTAL),
        },
    ),
    "rsna": DatasetEntry(
        title="RSNA Pneumonia Detection Challenge",
        module="core.data.datasets.rsna",
        kind="Rsna",
        findings=findings.RSNA,
        sentence="26,684 labelled frontal radiographs (DICOM) from NIH ChestX-ray14, with boxes "
        "that radiologists drew around lung opacities.",
        licence="Free to use with attribution to RSNA and the NIH Clinical Center",
        needs_root=True,
        splits=("drawn", "paper"),
    ),
    "mimic": DatasetEntry(
        title="MIMIC-CXR-JPG",
        module="core.data.datasets.mimic",
        kind="Mimic",
        findings=findings.CHEXPERT,
        sentence="377,110 radiographs of 65,379 patients of one hospital, labelled from reports by "
        "CheXpert's labeller, uncertain ones marked.",
        licence="PhysioNet Credentialed Health Data License 1.5.0",
        needs_root=True,
        options={
            "findings": Option("Findings", {"5": "the 5 of CheXpert", "14": "all 14"}),
            "uncertainty": UNCERTAINTY,
            "views": Option("Views", FRONTAL | ALL),
        },
    ),
    "padchest": DatasetEntry(
        title="PadChest",
        module="core.data.datasets.padchest",
        kind="Padchest",
        findings=findings.NIH,
        sentence="Over 160,000 radiographs of 67,000 patients of one hospital (16-bit PNG), "
        "labelled from Spanish reports, 27% of them by radiologists; here with NIH's 14 findings.",
        licence="BIMCV PadChest Dataset Research Use Agreement",
        needs_root=True,
        splits=("drawn", "physicians"),
        options={"views": Option("Views", FRONTAL | ALL)},
    ),
    "vindr": DatasetEntry(
        title="VinDr-CXR",
        module="core.data.datasets.vindr",
        kind="Vindr",
        findings=findings.VINDR,
        sentence="18,000 frontal radiographs (DICOM) read by radiologists, with boxes: three for "
        "each training picture, of whom most decide, five in agreement for each test picture.",
        licence="PhysioNet Credentialed Health Data License 1.5.0",
        needs_root=True,
        options={
            "findings": Option(
                "Findings", {"14": "the 14 of the challenge", "27": "all 27, with diagnoses"}
            )
        },
    ),
    "chestmnist": DatasetEntry(
        title="ChestMNIST",
        module="core.data.datasets.medmnist",
        kind="MedMnist",
        findings=findings.NIH,
        sentence="NIH ChestX-ray14 as small squares (28 to 224 px) of MedMNIST, from a local npz.",
        licence="CC BY 4.0; pictures: NIH Clinical Center, with attribution",
        needs_root=True,
        arguments={"flag": "chestmnist"},
    ),
    "pneumoniamnist": DatasetEntry(
        title="PneumoniaMNIST",
        module="core.data.datasets.medmnist",
        kind="MedMnist",
        findings=findings.RSNA,
        sentence="5,856 paediatric radiographs of Kermany et al. as small squares (28 to 224 px) "
        "of MedMNIST, from a local npz.",
        licence="CC BY 4.0",
        needs_root=True,
        arguments={"flag": "pneumoniamnist"},
    ),
    "folder": DatasetEntry(
        title="A folder of your own",
        module="core.data.datasets.custom_folder",
        kind="Folder",
        findings=(),
        sentence="Pictures in folders named after findings, or beside a CSV with a column a "
        "finding; missing splits are drawn by patient.",
        licence="Your own",
        needs_root=True,
        options={"patient": PATIENT, "table": TABLE, "columns": COLUMNS, "labels": LABELS},
    ),
}


FILES = {"MedMnist": ".npz", "Folder": ".json"}
"""Kinds of data sets that a single file can stand for, and its suffix."""


def open_data(spec: DataSpec) -> ChestDataset:
    """Open the data set of a run; see ``open_dataset``.

    Args:
        spec: Its name, folder, split and options, and whether missing pictures are left out; the
            label fraction plays no part.

    Raises:
        ConfigurationError: There is no such data set.
        DataError: It cannot be opened, or one of the options is not the data set's.
    """
    options = spec.options()
    entry = _entry(spec.name)
    for name in options:
        if name not in entry.options:
            known = ", ".join(entry.options) or "none"
            raise DataError(
                f"{entry.title} has no option “{name}”.",
                f"Leave it out. Its options: {known}.",
                field=f"data.{name}",
            )
    if not spec.skip_bad:
        return open_dataset(spec.name, spec.root, spec.split, **options)
    with problems.passing("missing files") as passed:
        dataset = open_dataset(spec.name, spec.root, spec.split, **options)
    dataset.leave_out_missing(passed["missing files"])
    return dataset


def open_dataset(
    name: str, root: Path | str | None = None, split: str | None = None, **options: Any
) -> ChestDataset:
    """Open a data set: read its tables, check that its files are there, decode nothing.

    Args:
        name: A key of ``DATASETS``.
        root: Its folder, for those that need one.
        split: One of the entry's splits; by default the first.
        **options: Further arguments of the data set's class, such as ``patient`` of ``folder``.

    Raises:
        ConfigurationError: There is no such data set; ``field`` is ``data.name``.
        DataError: The folder or the split is missing, incomplete or contradictory, or an option has
            no such value; ``field`` is ``data.root``, ``data.split`` or the option's.
    """
    entry = _entry(name)
    if split is not None and split not in entry.splits:
        known = ", ".join(entry.splits) or "it has only one; leave it out"
        raise DataError(
            f"{entry.title} has no split “{split}”.", f"Known: {known}.", field="data.split"
        )
    for key, option in entry.options.items():
        given = options.get(key)
        if given is not None and option.choices and given not in option.choices:
            raise unknown_name(
                f"choice of {key} in {entry.title}", str(given), option.choices,
                error=DataError, field=f"data.{key}",
            )  # fmt: skip
    kind = getattr(importlib.import_module(entry.module), entry.kind)
    chosen: dict[str, Any] = {**entry.arguments, **options}
    if entry.needs_root:
        chosen["root"] = _folder(entry, root)
    if entry.splits:
        chosen["split"] = split or entry.splits[0]
    try:
        opened: ChestDataset = kind(**chosen)
    except OSError as error:  # a folder on the way that may not be entered, say
        raise DataError(
            f"{entry.title}: {error.filename or root} cannot be read ({error.strerror}).",
            "Check that it is there and that you may read it.",
            field="data.root",
        ) from error
    return opened


def _entry(name: str) -> DatasetEntry:
    if name not in DATASETS:
        raise unknown_name("data set", name, DATASETS, field="data.name")
    return DATASETS[name]


def _folder(entry: DatasetEntry, root: Path | str | None) -> Path:
    if root is None:
        raise DataError(
            f"{entry.title} needs its folder.",
            "Name the folder that holds it (--root DIR).",
            field="data.root",
        )
    folder = Path(root).expanduser().absolute()
    suffix = FILES.get(entry.kind)
    try:
        there = folder.is_dir() or (suffix == folder.suffix.lower() and folder.is_file())
        what = "is a file, not a folder" if folder.is_file() else "does not exist"
    except OSError as error:
        there, what = False, f"cannot be looked at ({error.strerror})"
    if not there:
        raise DataError(
            f"The folder {folder} {what}.",
            f"Name the folder that holds {entry.title}.",
            field="data.root",
        )
    return folder
