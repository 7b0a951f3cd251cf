"""The command that lists the tuning methods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.cli.output import AsJson, answer, table

if TYPE_CHECKING:
    from core.models.tuning.applicability import Offer


def list_methods(
    backbone: Annotated[
        str | None, typer.Option(help="Also count the trained parameters on this backbone.")
    ] = None,
    findings: Annotated[int, typer.Option(min=1, help="Number of outputs of the classifier.")] = 14,
    as_json: AsJson = False,
) -> None:
    """List tuning methods: what each does, its settings and their defaults."""
    from core.models.backbones.registry import backbone_card
    from core.models.tuning.applicability import defaults, offers
    from core.models.tuning.registry import TUNING_METHODS

    entries: list[dict[str, Any]] = [
        {
            "name": method.name,
            "title": method.title,
            "sentence": method.sentence,
            "paper": method.paper,
            "options": defaults(method),
            "starts_as_backbone": method.starts_as_backbone,
            "merges": method.merges,
        }
        for method in TUNING_METHODS.values()
    ]
    if backbone is not None:
        on_backbone = offers(backbone_card(backbone), findings)
        entries = [e | _counts(offer) for e, offer in zip(entries, on_backbone, strict=True)]
    answer(entries, as_json, lambda: _print(entries))


def _counts(offer: Offer) -> dict[str, Any]:
    """The entries of a method on a chosen backbone."""
    count = offer.count
    entry: dict[str, Any] = {
        "fits": count is not None,
        "why": offer.why,
        "trainable": count and count.trainable,
        "total": count and count.total,
        "share": count and count.share,
    }
    if offer.targets:
        entry["targets"] = list(offer.targets)
    return entry


def _print(entries: list[dict[str, Any]]) -> None:
    counted = "fits" in entries[0]
    head = ("name", *(("trains", "share") if counted else ()), "description")
    rows = []
    for entry in entries:
        counts: tuple[str, ...] = ()
        if counted:
            counts = ("–", "–")
            if entry["fits"]:
                counts = (f"{entry['trainable']:,}", f"{entry['share']:.3%}")
        description = entry["why"] if counted and not entry["fits"] else entry["sentence"]
        rows.append((entry["name"], *counts, description))
    table(head, rows)
    table(
        ("name", "settings and their defaults"),
        [
            (e["name"], ", ".join(f"{_flag(name)} {value}" for name, value in e["options"].items()))
            for e in entries
            if e["options"]
        ],
    )


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
