"""The command ``pretrain``: pre-train a small backbone."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.cli.output import AsJson, Folder, answer
from core.errors import ConfigurationError

if TYPE_CHECKING:
    from core.data.base import ChestDataset
    from core.pretraining.collect_images import Collection
    from core.pretraining.recipe import PretrainSettings


Out = Annotated[Path, typer.Option(help="Folder for checkpoint, weights and card.")]
Images = Annotated[int, typer.Option(min=0, max=99_999, help="Number of phantom radiographs.")]
Data = Annotated[
    list[str] | None,
    typer.Option(
        help="A data set of real radiographs to add, or unlabelled for a folder of images without "
        "labels; can be given several times."
    ),
]
Roots = Annotated[list[Path] | None, typer.Option(help="Folder of each --data, in the same order.")]
Patients = Annotated[
    list[str] | None,
    typer.Option(help="Pattern of the patient in the file names of each --data folder."),
]
Reports = Annotated[
    bool,
    typer.Option("--reports", help="Masked record modelling: also predict words of the reports."),
]
Dense = Annotated[
    bool,
    typer.Option(
        "--dense",
        help="The tokens of phantoms also predict where they differ from the healthy patient, and "
        "where lungs, heart and tubes are.",
    ),
]
InputSize = Annotated[int, typer.Option(help="Side of the crops in pixels.")]
RealShare = Annotated[
    float, typer.Option(help="Share of real images in an epoch, if there are phantoms.")
]
Start = Annotated[
    str | None, typer.Option(help="Initial weights: name of an embedded backbone, or a file.")
]
Minutes = Annotated[
    float | None, typer.Option(help="Time budget in minutes, summed over interruptions.")
]
Steps = Annotated[int | None, typer.Option(help="Number of optimizer steps; by default 8000.")]
BatchSize = Annotated[int, typer.Option(help="Images per step.")]
LearningRate = Annotated[float, typer.Option(help="Peak learning rate.")]
Precision = Annotated[str, typer.Option(help="auto, fp32 or bf16.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Seed = Annotated[int, typer.Option(help="Seed of weights, order, crops and masks.")]


def pretrain(
    out: Out,
    images: Images = 16_000,
    data: Data = None,
    root: Roots = None,
    patient: Patients = None,
    reports: Reports = False,
    dense: Dense = False,
    input_size: InputSize = 128,
    real_share: RealShare = 0.5,
    start: Start = None,
    minutes: Minutes = None,
    steps: Steps = None,
    batch_size: BatchSize = 64,
    lr: LearningRate = 1e-3,
    precision: Precision = "auto",
    device: Device = "auto",
    seed: Seed = 0,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Pre-train a small backbone by masked autoencoding or masked record modelling.

    It learns from phantoms and real radiographs. Run the same command again to resume.
    """
    from core.pretraining import collect_images
    from core.pretraining.recipe import Origin, PretrainSettings
    from core.pretraining.trainer import pretrain
    from core.workspace import open_workspace

    settings = PretrainSettings(
        steps=steps if steps or minutes else 8_000, minutes=minutes, batch_size=batch_size, lr=lr,
        input_size=input_size,
        crop=collect_images.CROPS[reports], precision=precision, device=device, seed=seed,
    )  # fmt: skip
    size, cache = settings.input_size, open_workspace(folder).cache
    real = _open_real(data or [], root or [], patient or [])
    initial = None if start is None else _weights(start)
    collection = collect_images.collect(
        collect_images.phantoms(images) if images else None, real, cache,
        collect_images.image_side(size, reports),
        share=real_share, reports=reports, dense=dense, progress=_print_progress,
    )  # fmt: skip
    probes = {"phantom-14": collect_images.make_probe(cache, size)}
    probes |= {
        dataset.title: collect_images.make_probe(cache, size, dataset)
        for dataset in real
        if dataset.findings
    }
    typer.echo("\n".join(map(_describe, collection.sets)), err=True)
    weights = pretrain(
        collection.images,
        out,
        settings=settings,
        times=collection.times,
        reports=collection.reports,
        dense=collection.dense,
        start=initial,
        log=lambda line: typer.echo(line, err=True),
        probes=probes,
        origin=Origin(
            data=collection.sentence(),
            sets=collection.sets,
            start="" if start is None else Path(start).name,
            command=_command(settings, images, collection, patient or [], real_share, start, out),
        ),
    )
    value = json.loads((out / "card.json").read_text()) | {"weights": str(weights)}
    answer(value, as_json, lambda: typer.echo(f"Wrote {weights}."))


def _print_progress(done: int, total: int) -> None:
    typer.echo(f"\rimages {done:,} of {total:,}", err=True, nl=done >= total)


def _open_real(names: list[str], roots: list[Path], patterns: list[str]) -> list[ChestDataset]:
    """Open the data sets of real radiographs."""
    from core.config.run import DataSpec
    from core.data.datasets.registry import open_data
    from core.data.datasets.unlabelled import Unlabelled

    if len(names) != len(roots):
        raise ConfigurationError(
            f"There are {len(names)} data sets (--data) and {len(roots)} folders (--root).",
            "Give a --root for each --data.",
        )
    own = names.count("folder")
    if len(patterns) not in (0, own):
        raise ConfigurationError(
            f"There are {own} data sets of type folder and {len(patterns)} patient patterns "
            "(--patient).",
            "Give one --patient for each --data folder, or none.",
        )
    remaining = list(patterns)
    return [
        Unlabelled(folder.expanduser().absolute())
        if name == Unlabelled.name
        else open_data(
            DataSpec(
                name=name,
                root=folder.expanduser().absolute(),
                patient=remaining.pop(0) if remaining and name == "folder" else None,
            )
        )
        for name, folder in zip(names, roots, strict=True)
    ]


def _weights(start: str) -> Path:
    """The file of the initial weights, given a backbone's name or a path, after reading it once."""
    from core.models.backbones import checkpoints
    from core.models.backbones.registry import BACKBONES
    from core.workspace import BACKBONE_FILES

    card = BACKBONES.get(start)
    embedded = card is not None and card.weights is not None
    path = BACKBONE_FILES / str(card.weights) if card and embedded else Path(start).expanduser()
    checkpoints.read(path)  # a wrong name must fail before minutes of collecting images
    return path


def _describe(record: dict[str, Any]) -> str:
    """One line about a data set of the collection."""
    left = f", {record['left_out']:,} similar images left out" if record["left_out"] else ""
    return (
        f"{record['title']}: {record['pictures']:,} images ({record['split']}){left}; "
        f"{record['times_an_epoch']} times per epoch, {record['share']:.0%} of the epoch. "
        f"{record['licence']}."
    )


def _command(
    settings: PretrainSettings,
    images: int,
    collection: Collection,
    patterns: list[str],
    share: float,
    start: str | None,
    out: Path,
) -> str:
    """The command that repeats the pre-training, with DIR instead of local folders."""
    from core.pretraining.recipe import PretrainSettings

    words = ["python -m core pretrain", f"--images {images}"]
    remaining = list(patterns)
    for record in collection.sets:
        if record["name"].startswith("phantom"):
            continue
        words.append(f"--data {record['name']} --root DIR")
        if record["name"] == "folder" and remaining:
            words.append(f"--patient {shlex.quote(remaining.pop(0))}")
    if len(collection.sets) > 1 and images:
        words.append(f"--real-share {share:g}")
    if collection.reports is not None:
        words.append("--reports")
    if collection.dense is not None:
        words.append("--dense")
    if start is not None:
        words.append(f"--start {Path(start).name}")
    budget = f"--minutes {settings.minutes:g}" if settings.minutes else f"--steps {settings.steps}"
    if settings.input_size != PretrainSettings.input_size:
        words.append(f"--input-size {settings.input_size}")
    words += [budget, f"--batch-size {settings.batch_size} --lr {settings.lr:g}"]
    return " ".join([*words, f"--seed {settings.seed} --out {out.name}"])
