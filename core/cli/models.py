"""The command ``models check``: load a backbone's weights and verify what they compute."""

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
        str, typer.Argument(metavar="NAME|FILE", help="Name of a backbone, or a checkpoint file.")
    ],
    weights: Annotated[
        Path | None, typer.Option(help="A checkpoint to load instead of the backbone's weights.")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.safetensors",
            help="Compare the logits with this reference; its JSON file has the network's size.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Load a backbone, report every key, and show its features of a fixed phantom.

    With --against, compare its logits with a reference instead; the exit code is 1 if they differ
    by more than allowed.
    """
    if against is not None:
        _compare(backbone, weights, against, as_json)
        return
    card, file, others = _resolve(backbone, weights)
    report, features, image_digest = _load(card, file)
    value = {
        "backbone": card.name,
        "also_fits": others,
        "report": asdict(report),
        "picture_sha256": image_digest,
        "features": asdict(features),
        "card": asdict(card),
    }
    answer(value, as_json, lambda: _print(card, others, report, features))


def _resolve(backbone: str, weights: Path | None) -> tuple[BackboneCard, Path | None, list[str]]:
    """Card and weights file; for a file, the first backbone it fits and the names of the others."""
    from core.models.backbones import checkpoints
    from core.models.backbones.build import fitting_backbones
    from core.models.backbones.registry import backbone_card

    file = Path(backbone).expanduser()
    if weights is not None or not (file.is_file() or _is_path(backbone)):
        return backbone_card(backbone), weights, []
    fitting = fitting_backbones(checkpoints.read(file))
    if not fitting:
        raise ModelError(
            f"{file} fits none of the backbones.",
            "Give its backbone to see what does not fit: models check NAME --weights FILE.",
        )
    return fitting[0], file, [card.name for card in fitting[1:]]


def _is_path(text: str) -> bool:
    """Whether a text looks like a path, whether or not the file exists."""
    return "/" in text or text.endswith((".pth", ".pt", ".bin", ".safetensors", ".tar"))


def _load(card: BackboneCard, file: Path | None) -> tuple[LoadReport, Fingerprint, str]:
    import hashlib

    import torch

    from core.models.backbones.build import build_backbone
    from core.models.backbones.fingerprint import fingerprint

    torch.manual_seed(0)
    model, report = build_backbone(card, 1, weights=file)
    pixels = _phantom(card)
    return (
        report,
        fingerprint(model, pixels),
        hashlib.sha256(pixels.numpy().tobytes()).hexdigest(),
    )


def _phantom(card: BackboneCard) -> Tensor:
    """Pixels of a fixed phantom, transformed for the backbone; the same on every machine."""
    from core.classifier.build import evaluation_transform
    from core.data.phantoms.dataset import Phantom

    dataset = Phantom("phantom-14", train=1, val=1, test=1)
    image = dataset.read(dataset.ids("test")[0])
    return evaluation_transform(card, card.input_size)([image])


def _print(
    card: BackboneCard, others: list[str], report: LoadReport, features: Fingerprint
) -> None:
    typer.echo(f"{card.title} ({card.name}), {card.input_size} px, {card.pooling}")
    if others:
        typer.echo(
            f"{'':12}The file also fits {', '.join(others)}. Choose with NAME --weights FILE."
        )
    kinds: list[tuple[str, tuple[str, ...]]] = [
        ("matched", report.matched),
        ("reshaped", report.reshaped),
        ("missing", report.missing),
        ("unexpected", report.unexpected),
    ]
    for name, keys in kinds:
        examples = ", ".join(keys[:4]) + (", …" if len(keys) > 4 else "")
        typer.echo(
            f"{name:12}{len(keys)}" + (f"  {examples}" if name != "matched" and keys else "")
        )
    typer.echo(f"{'SHA-256':12}{report.sha256}")
    typer.echo(f"{'features':12}{features}")
    typer.echo(f"{'licence':12}{card.licence}")
    typer.echo(f"{'leaks':12}{card.leaks or 'none known'}")


def _compare(backbone: str, weights: Path | None, against: Path, as_json: bool) -> None:
    from core.models import parity
    from core.models.backbones.registry import backbone_card

    if weights is None:
        result = parity.compare(Path(backbone).expanduser(), against.expanduser())
    else:
        result = parity.compare(
            weights.expanduser(), against.expanduser(), backbone_card(backbone).name
        )
    rows: dict[str, Any] = {
        name: {"difference": value, "allowed": parity.ALLOWED[name]}
        for name, value in result.differences.items()
    }
    value = {"holds": result.holds, "differences": rows, "report": asdict(result.report)}
    answer(value, as_json, lambda: _print_parity(result))
    raise typer.Exit(0 if result.holds else 1)


def _print_parity(result: Parity) -> None:
    from core.models.parity import ALLOWED

    typer.echo(str(result.report))
    for name, value in result.differences.items():
        verdict = "equal" if value <= ALLOWED[name] else "DIFFERENT"
        typer.echo(f"{name:26}{value:.1e}, allowed {ALLOWED[name]:.0e}: {verdict}")
