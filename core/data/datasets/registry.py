"""All data sets by name. Importing this module loads no data set.

To add a data set, write its class in a module of this package and add an entry to ``DATASETS``.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.data import findings, folds, problems
from core.errors import DataError, unknown_name

if TYPE_CHECKING:
    from core.config.run import DataSpec
    from core.data.base import ChestDataset


@dataclass(frozen=True)
class Option:
    """An option of a data set; its name is a field of ``DataSpec``.

    Attributes:
        label: The displayed name.
        choices: The meaning of each value, the default first; empty for free text.
        example: An example of free text.
    """

    label: str
    choices: Mapping[str, str] = field(default_factory=dict)
    example: str = ""


@dataclass(frozen=True)
class DatasetEntry:
    """What is known about a data set before it is opened.

    Attributes:
        title: The displayed name.
        reader: The class that reads it, as ``module:Class``; imported when it is opened.
        findings: Names of the labels; empty if the folder determines them.
        sentence: A description in one sentence.
        licence: The terms of use of the images.
        needs_root: Whether the user has to give a folder.
        splits: The available splits, the default first; empty if there is only one.
        options: Further options, by name of the class's argument.
        arguments: Further arguments of the class.
        file_suffix: Suffix of a single file that may be given instead of a folder; empty if none.
    """

    title: str
    reader: str
    findings: tuple[str, ...]
    sentence: str
    licence: str
    needs_root: bool
    splits: tuple[str, ...] = ()
    options: Mapping[str, Option] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    file_suffix: str = ""


PATIENT = Option(
    "Pattern of the patient in an image's path (regular expression)", example=r"(person\d+|IM-\d+)"
)
TABLE = Option("CSV file with the labels, if there are several", example="labels.csv")
COLUMNS = Option(
    "Columns, if they are not recognised by name", example="path=File, patient=PatID, split=Fold"
)
LABELS = Option("Columns or class folders that are findings", example="Edema, Fx=Fracture")

UNCERTAINTY = Option(
    "Labels marked uncertain",
    {
        "mixed": "the paper's rule for each finding",
        "ones": "count as present",
        "zeros": "count as absent",
        "ignore": "are ignored",
    },
)
ALL, FRONTAL = {"all": "all"}, {"frontal": "frontal only"}

DATASETS: dict[str, DatasetEntry] = {
    "phantom-14": DatasetEntry(
        title="Phantoms, 14 findings",
        reader="core.data.phantoms.dataset:Phantom",
        findings=findings.NIH,
        sentence="Generated radiographs with the 14 findings of NIH ChestX-ray14, with masks.",
        licence="MIT (generated)",
        needs_root=False,
        arguments={"name": "phantom-14"},
    ),
    "phantom-5": DatasetEntry(
        title="Phantoms, 5 findings",
        reader="core.data.phantoms.dataset:Phantom",
        findings=findings.CHEXPERT,
        sentence="Generated radiographs with the 5 findings of CheXpert, with masks.",
        licence="MIT (generated)",
        needs_root=False,
        arguments={"name": "phantom-5"},
    ),
    "phantom-1": DatasetEntry(
        title="Phantoms, pneumonia",
        reader="core.data.phantoms.dataset:Phantom",
        findings=findings.RSNA,
        sentence="Generated radiographs with or without pneumonia, with masks.",
        licence="MIT (generated)",
        needs_root=False,
        arguments={"name": "phantom-1"},
    ),
    "nih": DatasetEntry(
        title="NIH ChestX-ray14",
        reader="core.data.datasets.nih:Nih",
        findings=findings.NIH,
        sentence="112,120 frontal radiographs of 30,805 patients, 14 findings mined from reports, "
        "boxes for 8 of them on 880 images.",
        licence="Free to use with attribution to the NIH Clinical Center",
        needs_root=True,
        splits=("official", "paper"),
    ),
    "chexpert": DatasetEntry(
        title="CheXpert",
        reader="core.data.datasets.chexpert:Chexpert",
        findings=findings.CHEXPERT,
        sentence="224,316 frontal and lateral radiographs of 65,240 patients; 14 findings mined "
        "from reports, with an uncertain class; validation and test labels by radiologists.",
        licence="Stanford University Dataset Research Use Agreement: research only, no sharing",
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
        reader="core.data.datasets.rsna:Rsna",
        findings=findings.RSNA,
        sentence="26,684 labelled frontal radiographs (DICOM) from NIH ChestX-ray14, with boxes "
        "that radiologists drew around lung opacities.",
        licence="Free to use with attribution to RSNA and the NIH Clinical Center",
        needs_root=True,
        splits=("drawn", "paper"),
    ),
    "mimic": DatasetEntry(
        title="MIMIC-CXR-JPG",
        reader="core.data.datasets.mimic:Mimic",
        findings=findings.CHEXPERT,
        sentence="377,110 radiographs of 65,379 patients of one hospital, labelled from reports by "
        "CheXpert's labeller, with an uncertain class.",
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
        reader="core.data.datasets.padchest:Padchest",
        findings=findings.NIH,
        sentence="Over 160,000 radiographs of 67,000 patients of one hospital (16-bit PNG), "
        "labelled from Spanish reports, 27% of them by radiologists; mapped to the 14 findings of "
        "NIH ChestX-ray14.",
        licence="BIMCV PadChest Dataset Research Use Agreement: research only, no sharing",
        needs_root=True,
        splits=("drawn", "physicians"),
        options={"views": Option("Views", FRONTAL | ALL)},
    ),
    "vindr": DatasetEntry(
        title="VinDr-CXR",
        reader="core.data.datasets.vindr:Vindr",
        findings=findings.VINDR,
        sentence="18,000 frontal radiographs (DICOM) read by radiologists, with boxes: the "
        "majority of three for each training image, the consensus of five for each test image.",
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
        reader="core.data.datasets.medmnist:MedMnist",
        findings=findings.NIH,
        sentence="NIH ChestX-ray14 as square images of 28 to 224 px (MedMNIST), from a local npz "
        "file.",
        licence="CC BY 4.0; images: NIH Clinical Center, with attribution",
        needs_root=True,
        arguments={"flag": "chestmnist"},
        file_suffix=".npz",
    ),
    "pneumoniamnist": DatasetEntry(
        title="PneumoniaMNIST",
        reader="core.data.datasets.medmnist:MedMnist",
        findings=findings.RSNA,
        sentence="5,856 paediatric radiographs of Kermany et al. as square images of 28 to "
        "224 px (MedMNIST), from a local npz file.",
        licence="CC BY 4.0",
        needs_root=True,
        arguments={"flag": "pneumoniamnist"},
        file_suffix=".npz",
    ),
    "folder": DatasetEntry(
        title="Your own folder",
        reader="core.data.datasets.custom_folder:Folder",
        findings=(),
        sentence="Images in folders named after findings, or a CSV file with one column per "
        "finding; missing splits are drawn by patient.",
        licence="Your own",
        needs_root=True,
        options={"patient": PATIENT, "table": TABLE, "columns": COLUMNS, "labels": LABELS},
        file_suffix=".json",
    ),
}


def open_data(spec: DataSpec) -> ChestDataset:
    """Open the data set of a run; see ``open_dataset``.

    Args:
        spec: Name, folder, split, fold and options of the data set, and whether missing images are
            skipped; the label fraction is not used.

    Raises:
        ConfigurationError: The data set is unknown.
        DataError: It cannot be opened, has no such option, or cannot be divided into the folds.
    """
    dataset = _open_undivided(spec)
    if spec.fold is not None:
        folds.divide(dataset, spec.fold)
    return dataset


def _open_undivided(spec: DataSpec) -> ChestDataset:
    options = spec.options()
    entry = _entry(spec.name)
    for name in options:
        if name not in entry.options:
            known = ", ".join(entry.options) or "none"
            raise DataError(
                f"{entry.title} has no option “{name}”.",
                f"Remove it. Options of this data set: {known}.",
                field=f"data.{name}",
            )
    if not spec.skip_bad:
        return open_dataset(spec.name, spec.root, spec.split, **options)
    with problems.ignoring("missing files") as ignored:
        dataset = open_dataset(spec.name, spec.root, spec.split, **options)
    dataset.leave_out_missing(ignored["missing files"])
    return dataset


def open_dataset(
    name: str, root: Path | str | None = None, split: str | None = None, **options: Any
) -> ChestDataset:
    """Open a data set: read its tables and check that its files exist; no image is decoded.

    Args:
        name: A key of ``DATASETS``.
        root: The folder, for data sets that need one.
        split: One of the entry's splits; by default the first.
        **options: Further arguments of the data set's class, such as ``patient`` of ``folder``.

    Raises:
        ConfigurationError: The data set is unknown; ``field`` is ``data.name``.
        DataError: The folder or the split is missing, incomplete or contradictory, or an option has
            an unknown value; ``field`` is ``data.root``, ``data.split`` or that of the option.
    """
    entry = _entry(name)
    if split is not None and split not in entry.splits:
        known = ", ".join(entry.splits) or "it has only one; do not give a split"
        raise DataError(
            f"{entry.title} has no split “{split}”.", f"Known splits: {known}.", field="data.split"
        )
    for key, option in entry.options.items():
        given = options.get(key)
        if given is not None and option.choices and given not in option.choices:
            raise unknown_name(
                f"choice of {key} in {entry.title}", str(given), option.choices,
                error=DataError, field=f"data.{key}",
            )  # fmt: skip
    module, _, reader = entry.reader.partition(":")
    chosen: dict[str, Any] = {**entry.arguments, **options}
    if entry.needs_root:
        chosen["root"] = _folder(entry, root)
    if entry.splits:
        chosen["split"] = split or entry.splits[0]
    try:
        opened: ChestDataset = getattr(importlib.import_module(module), reader)(**chosen)
    except OSError as error:  # for example a parent folder without permission
        raise DataError(
            f"{entry.title}: {error.filename or root} cannot be read ({error.strerror}).",
            "Check that it exists and that you may read it.",
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
            f"{entry.title} needs a folder.",
            "Give the folder of the data set (--root DIR).",
            field="data.root",
        )
    folder = Path(root).expanduser().absolute()
    try:
        allowed = folder.suffix.lower() == entry.file_suffix != ""
        exists = folder.is_dir() or (allowed and folder.is_file())
        reason = "is a file, not a folder" if folder.is_file() else "does not exist"
    except OSError as error:
        exists, reason = False, f"cannot be read ({error.strerror})"
    if not exists:
        raise DataError(
            f"The folder {folder} {reason}.",
            f"Give the folder of {entry.title}.",
            field="data.root",
        )
    return folder
