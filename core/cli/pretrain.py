"""The verb that pre-trains a small backbone."""

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


def pretrain(
    out: Annotated[Path, typer.Option(help="Folder of checkpoint, weights and card.")],
    images: Annotated[
        int, typer.Option(min=0, max=99_999, help="Phantom radiographs to learn from.")
    ] = 16_000,
    data: Annotated[
        list[str] | None,
        typer.Option(help="A set of real radiographs to learn from as well; can be repeated."),
    ] = None,
    root: Annotated[list[Path] | None, typer.Option(help="The folder of each --data.")] = None,
    patient: Annotated[
        list[str] | None, typer.Option(help="The pattern of patients of each --data folder.")
    ] = None,
    reports: Annotated[
        bool,
        typer.Option("--reports", help="Learn from the phantoms' reports too, by masked records."),
    ] = False,
    real_share: Annotated[
        float, typer.Option(help="Share of real pictures in an epoch, beside phantoms.")
    ] = 0.5,
    start: Annotated[
        str | None,
        typer.Option(help="Weights to start from: an embedded backbone's name, or a file."),
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Time budget; resumable.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps.")] = None,
    batch_size: int = 64,
    lr: float = 1e-3,
    precision: Annotated[str, typer.Option(help="auto, fp32 or bf16.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    seed: int = 0,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Pre-train a small backbone by masked images, or masked records, on phantoms and real sets."""
    from core.pretraining import collect_images
    from core.pretraining.recipe import Origin, PretrainSettings
    from core.pretraining.trainer import pretrain
    from core.workspace import open_workspace

    cache = open_workspace(folder).cache
    settings = PretrainSettings(
        steps=steps if steps or minutes else 8_000,
        minutes=minutes,
        batch_size=batch_size,
        lr=lr,
        crop=collect_images.CROPS[reports],
        precision=precision,
        device=device,
        seed=seed,
    )
    size = settings.input_size
    real = _real_sets(data or [], root or [], patient or [])
    weights = None if start is None else _weights(start)

    def progress(done: int, total: int) -> None:
        typer.echo(f"\rpictures {done:,} of {total:,}", err=True, nl=done >= total)

    drawn = collect_images.phantoms(images) if images else None
    pictures = collect_images.collect(
        drawn,
        real,
        cache,
        collect_images.kept_side(size, reports),
        share=real_share,
        reports=reports,
        progress=progress,
    )
    probes = {"phantom-14": collect_images.readout(cache, size)}
    probes |= {one.title: collect_images.readout(cache, size, one) for one in real}
    for told in pictures.sets:
        typer.echo(_in_words(told), err=True)
    written = pretrain(
        pictures.pictures,
        out,
        settings=settings,
        times=pictures.times,
        reports=pictures.reports,
        start=weights,
        log=lambda line: typer.echo(line, err=True),
        probes=probes,
        origin=Origin(
            data=pictures.sentence(),
            sets=pictures.sets,
            start="" if start is None else Path(start).name,
            command=_command(settings, images, pictures, patient or [], real_share, start, out),
        ),
    )
    card = json.loads((out / "card.json").read_text())
    answer(card | {"weights": str(written)}, as_json, lambda: typer.echo(f"Wrote {written}."))


def _real_sets(names: list[str], roots: list[Path], patterns: list[str]) -> list[ChestDataset]:
    from core.config.run import DataSpec
    from core.data.datasets.registry import open_data

    if len(names) != len(roots):
        raise ConfigurationError(
            f"Pre-training was given {len(names)} sets and {len(roots)} folders.",
            "Give a --root after each --data.",
        )
    own = names.count("folder")
    if len(patterns) not in (0, own):
        raise ConfigurationError(
            f"Pre-training was given {own} folders of one's own and {len(patterns)} patterns of "
            "patients.",
            "Give one --patient for each --data folder, or none.",
        )
    left = list(patterns)
    return [
        open_data(
            DataSpec(
                name=name,
                root=folder.expanduser().absolute(),
                patient=left.pop(0) if left and name == "folder" else None,
            )
        )
        for name, folder in zip(names, roots, strict=True)
    ]


def _weights(start: str) -> Path:
    """The file of weights that a backbone's name or a path stands for; it can be read."""
    from core.models.backbones import checkpoints
    from core.models.backbones.registry import BACKBONES
    from core.workspace import BACKBONE_FILES

    known = BACKBONES.get(start)
    shipped = known is not None and known.weights is not None
    path = BACKBONE_FILES / str(known.weights) if known and shipped else Path(start).expanduser()
    checkpoints.read(path)  # pictures take minutes, and a wrong name should not wait for them
    return path


def _in_words(told: dict[str, Any]) -> str:
    left = f", {told['left_out']:,} left out that look like others" if told["left_out"] else ""
    return (
        f"{told['title']}: {told['pictures']:,} pictures ({told['split']}){left}; "
        f"{told['times_an_epoch']} times an epoch, {told['share']:.0%} of it. {told['licence']}."
    )


def _command(
    settings: PretrainSettings,
    images: int,
    pictures: Collection,
    patterns: list[str],
    share: float,
    start: str | None,
    out: Path,
) -> str:
    """The command that makes the weights again; folders of data are the reader's own."""
    words = ["python -m core pretrain", f"--images {images}"]
    left = list(patterns)
    for told in pictures.sets:
        if told["name"].startswith("phantom"):
            continue
        words.append(f"--data {told['name']} --root DIR")
        if told["name"] == "folder" and left:
            words.append(f"--patient {shlex.quote(left.pop(0))}")
    if len(pictures.sets) > 1 and images:
        words.append(f"--real-share {share:g}")
    if pictures.reports is not None:
        words.append("--reports")
    if start is not None:
        words.append(f"--start {Path(start).name}")
    budget = f"--minutes {settings.minutes:g}" if settings.minutes else f"--steps {settings.steps}"
    words += [budget, f"--batch-size {settings.batch_size} --lr {settings.lr:g}"]
    return " ".join([*words, f"--seed {settings.seed} --out {out.name}"])
