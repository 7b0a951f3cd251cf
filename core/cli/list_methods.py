"""The verb that lists the ways to tune."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from core.cli.output import AsJson, answer, table


def list_methods(
    backbone: Annotated[
        str | None, typer.Option(help="Count what trains on this backbone, and say what fits it.")
    ] = None,
    findings: Annotated[int, typer.Option(min=1, help="Outputs of the classifier.")] = 14,
    as_json: AsJson = False,
) -> None:
    """Ways to tune a backbone: what each does, its settings, and what trains."""
    from core.models.tuning.applicability import defaults
    from core.models.tuning.registry import TUNING_METHODS

    entries: list[dict[str, Any]] = [
        {
            "name": one.name,
            "title": one.title,
            "sentence": one.sentence,
            "paper": one.paper,
            "options": defaults(one),
            "starts_as_backbone": one.starts_as_backbone,
            "merges": one.merges,
        }
        for one in TUNING_METHODS.values()
    ]
    if backbone is not None:
        entries = [e | _on(o) for e, o in zip(entries, _offers(backbone, findings), strict=True)]
    answer(entries, as_json, lambda: _print(entries))


def _offers(backbone: str, findings: int) -> Any:
    from core.models.backbones.registry import backbone_card
    from core.models.tuning.applicability import offers

    return offers(backbone_card(backbone), findings)


def _on(offer: Any) -> dict[str, Any]:
    """What a method does on the chosen backbone."""
    fits = offer.count is not None
    told: dict[str, Any] = {
        "fits": fits,
        "why": offer.why,
        "trainable": offer.count.trainable if fits else None,
        "total": offer.count.total if fits else None,
        "share": offer.count.share if fits else None,
    }
    if offer.targets:
        told["targets"] = list(offer.targets)
    return told


def _print(entries: list[dict[str, Any]]) -> None:
    counted = "fits" in entries[0]
    head = ("name", *(("trains", "share") if counted else ()), "what it does")
    rows = []
    for entry in entries:
        trains = (
            (f"{entry['trainable']:,}", f"{entry['share']:.3%}")
            if entry.get("fits")
            else ("–", "–")
        )
        what = entry["why"] if counted and not entry["fits"] else entry["sentence"]
        rows.append((entry["name"], *(trains if counted else ()), what))
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
