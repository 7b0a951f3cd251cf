"""Verbs on a backbone: check that its weights load, and what they compute."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.cli.output import AsJson, answer
from core.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

    from core.models.backbones.card import BackboneCard
    from core.models.backbones.checkpoints import LoadReport
    from core.models.backbones.fingerprint import Fingerprint
    from core.models.parity import Parity

app = typer.Typer(help="Check backbones and their weights.", no_args_is_help=True)


@app.command("check")
def check_model(
    backbone: Annotated[
        str, typer.Argument(metavar="NAME|FILE", help="A backbone's name, or a checkpoint file.")
    ],
    weights: Annotated[
        Path | None, typer.Option(help="A checkpoint to load in place of the backbone's own.")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.safetensors",
            help="Compare logits with this reference, whose JSON file beside it tells the size.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Load a backbone and say what became of every key, and what it makes of a fixed phantom.

    With --against it compares logits instead; exit code 1 if they differ by more than allowed.
    """
    if against is not None:
        _compare(backbone, weights, against, as_json)
        return
    backbone_card, file, others = _chosen(backbone, weights)
    report, features, picture = _loaded(backbone_card, file)
    value = {
        "backbone": backbone_card.name,
        "also_fits": others,
        "report": asdict(report),
        "picture_sha256": picture,
        "features": asdict(features),
        "card": asdict(backbone_card),
    }
    answer(value, as_json, lambda: _print(backbone_card, others, report, features))


def _chosen(backbone: str, weights: Path | None) -> tuple[BackboneCard, Path | None, list[str]]:
    """The backbone that is meant; of a file the first that it fits, and the others' names."""
    from core.models.backbones import checkpoints
    from core.models.backbones.build import fitting_backbones
    from core.models.backbones.registry import backbone_card

    file = Path(backbone).expanduser()
    if weights is not None or not (file.is_file() or _is_path(backbone)):
        return backbone_card(backbone), weights, []
    found = fitting_backbones(checkpoints.read(file))
    if not found:
        raise ModelError(
            f"{file} fits none of the backbones.",
            "Name the one it is of: models check NAME --weights FILE tells what does not fit.",
        )
    return found[0], file, [one.name for one in found[1:]]


def _is_path(text: str) -> bool:
    """Whether a text is meant as a file that may not be there."""
    return "/" in text or text.endswith((".pth", ".pt", ".bin", ".safetensors", ".tar"))


def _loaded(card: BackboneCard, file: Path | None) -> tuple[LoadReport, Fingerprint, str]:
    import hashlib

    import torch

    from core.models.backbones.build import build_backbone
    from core.models.backbones.fingerprint import fingerprint

    torch.manual_seed(0)
    model, report = build_backbone(card, 1, weights=file)
    pixels = _phantom(card)
    picture = hashlib.sha256(pixels.numpy().tobytes()).hexdigest()
    return report, fingerprint(model, pixels), picture


def _phantom(card: BackboneCard) -> Tensor:
    """The same phantom on every machine, as the backbone is fed."""
    from core.classifier.build import evaluation_transform
    from core.data.phantoms.dataset import Phantom

    dataset = Phantom("phantom-14", train=1, val=1, test=1)
    picture = dataset.read(dataset.ids("test")[0])
    return evaluation_transform(card, card.input_size)([picture])


def _print(
    card: BackboneCard, others: list[str], report: LoadReport, features: Fingerprint
) -> None:
    typer.echo(f"{card.title} ({card.name}), {card.input_size} px, {card.pooling}")
    if others:
        typer.echo(f"{'':12}the file also fits {', '.join(others)}; name one with --weights FILE")
    kinds: list[tuple[str, tuple[str, ...]]] = [
        ("matched", report.matched),
        ("reshaped", report.reshaped),
        ("missing", report.missing),
        ("unexpected", report.unexpected),
    ]
    for name, keys in kinds:
        shown = ", ".join(keys[:4]) + (", …" if len(keys) > 4 else "")
        of_note = "" if name == "matched" or not keys else f"  {shown}"
        typer.echo(f"{name:12}{len(keys)}{of_note}")
    typer.echo(f"{'SHA-256':12}{report.sha256}")
    typer.echo(f"{'features':12}{features}")
    typer.echo(f"{'licence':12}{card.licence}")
    typer.echo(f"{'leaks':12}{card.leaks or 'none known'}")


def _compare(backbone: str, weights: Path | None, against: Path, as_json: bool) -> None:
    from core.models import parity
    from core.models.backbones.registry import backbone_card

    if weights is None:
        found = parity.compare(Path(backbone).expanduser(), against.expanduser())
    else:
        found = parity.compare(
            weights.expanduser(), against.expanduser(), backbone_card(backbone).name
        )
    rows: dict[str, Any] = {
        name: {"difference": value, "allowed": parity.ALLOWED[name]}
        for name, value in found.differences.items()
    }
    value = {"holds": found.holds, "differences": rows, "report": asdict(found.report)}
    answer(value, as_json, lambda: _print_parity(found))
    raise typer.Exit(0 if found.holds else 1)


def _print_parity(found: Parity) -> None:
    from core.models.parity import ALLOWED

    typer.echo(str(found.report))
    for name, value in found.differences.items():
        kept = "equal" if value <= ALLOWED[name] else "DIFFERENT"
        typer.echo(f"{name:26}{value:.1e}  of {ALLOWED[name]:.0e} allowed  {kept}")
