"""Numbers of the documentation that are read from stored results, so that none is typed twice.

A page writes the name of a value between double braces. The Help page and the documentation's site
(``docs/site/hooks.py``) replace it:

- ``{{ transfer-table }}``: a value of ``transfer_values``, ``verdict_values``,
  ``simulation_values`` or ``tuned_values``;
- ``{{ cpu step/ViT-B/lora/64 ours .2f }}``: a field of a benchmark's row in ``cpu.json``, in one of
  Python's number formats, or ``MB`` for bytes.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from core.config.run import AdapterSpec, DataSpec, ModelSpec, RunSpec, TrainSpec
from core.data.datasets.registry import DATASETS
from core.experiments.transfer import grid, pairwise_tests, results_csv
from core.formatting import percent, points
from core.metrics.intervals import Interval
from core.metrics.seed_tests import seeds_paired
from core.models.backbones.registry import backbone_card
from core.models.tuning.registry import TUNING_METHODS
from core.workspace import ASSETS

TRANSFER, VERDICT = ASSETS / "results" / "transfer.csv", ASSETS / "results" / "verdict.csv"
SIMULATION, TUNED = ASSETS / "results" / "simulation.csv", ASSETS / "results" / "tuned.csv"
BENCHMARKS = ASSETS.parent / "tests" / "benchmarks" / "results" / "cpu.json"

MARKER = re.compile(r"\{\{ ([^{}\n]+) \}\}")


def expand(markdown: str) -> str:
    """Replace every marker by its value.

    Raises:
        KeyError: There is no such value.
    """
    return MARKER.sub(lambda marker: value(marker[1]), markdown)


def value(name: str) -> str:
    """The text of one marker.

    Raises:
        KeyError: There is no such value.
    """
    if name.startswith("cpu "):
        _, row, field, form = name.split()
        return _benchmark(row, field, form)
    stored = transfer_values() | verdict_values() | simulation_values() | tuned_values()
    return (stored | _arithmetic())[name]


@lru_cache(maxsize=1)
def transfer_values() -> dict[str, str]:
    """Values of ``transfer.csv``: LoRA and full fine-tuning from each shipped backbone."""
    known = {_run(key): result for key, result in results_csv.read(TRANSFER).items()}
    rows = grid.table_rows(known, known)
    columns = [
        (data, fraction)
        for data in dict.fromkeys(row.data for row in rows)
        for fraction in grid.FRACTIONS
        if any(row.data == data and row.curve.at(fraction) for row in rows)
    ]
    gaps = {column: _gap_of_random(rows, *column) for column in columns}
    widest = max(gaps, key=lambda column: gaps[column])
    values = {
        "transfer-table": grid.markdown(rows, grid.FRACTIONS),
        "transfer-runs": str(len(known)),
        "transfer-random-below": f"{sum(gap > 0 for gap in gaps.values())} of {len(gaps)}",
        "transfer-random-largest": f"{gaps[widest]:.2f} ({widest[0]}, {_labels(widest[1])})",
    }
    tests = results_csv.read_tests(TRANSFER)
    for summary in pairwise_tests.lora_summaries(known, known, tests):
        name = f"transfer-{summary.other}{'-tuned' * summary.tuned}"
        ordered = sorted(summary.tests, key=lambda test: test.difference.value)
        values[name] = pairwise_tests.sentence(summary)
        if not ordered:
            continue
        values |= {
            f"{name}-wins": f"{summary.ahead} of {len(summary.tests)}",
            f"{name}-clear": str(len(summary.significant)),
            f"{name}-largest": _difference(ordered[-1]),
            f"{name}-smallest": _difference(ordered[0]),
        }
    return values


@lru_cache(maxsize=1)
def verdict_values() -> dict[str, str]:
    """Values of ``verdict.csv``: the study's grid on the embedded backbones and phantoms."""
    with VERDICT.open(encoding="utf-8", newline="") as stream:
        tasks = list(csv.DictReader(stream))
    gaps = [float(task["difference"]) for task in tasks]
    shares = [float(task["trainable_share"]) for task in tasks]
    means = [
        sum(gap for task, gap in zip(tasks, gaps, strict=True) if task["data"] == data)
        / sum(task["data"] == data for task in tasks)
        for data in dict.fromkeys(task["data"] for task in tasks)
    ]
    over_data = seeds_paired(means, [0.0] * len(means)).difference
    wins = sum(gap > 0 for gap in gaps)
    largest = max(tasks, key=lambda task: float(task["difference"]))
    return {
        "verdict-table": _verdict_table(tasks),
        "verdict-wins": f"{wins} of {len(tasks)}",
        "verdict-mean": points(over_data.value),
        "verdict-mean-interval": f"{points(over_data.low)} to {points(over_data.high)}",
        "verdict-largest": points(float(largest["difference"])),
        "verdict-largest-task": f"{backbone_card(largest['backbone']).title}: "
        f"{DATASETS[largest['data']].title.lower()}, {_labels(float(largest['label_fraction']))}",
        "verdict-share": f"{100 * min(shares):.2f}% to {100 * max(shares):.2f}%",
    }


@lru_cache(maxsize=1)
def simulation_values() -> dict[str, str]:
    """Values of ``simulation.csv``: how often verdicts and intervals are wrong."""
    with SIMULATION.open(encoding="utf-8", newline="") as stream:
        settings = list(csv.DictReader(stream))
    seeds = sorted({int(each["seeds"]) for each in settings if each["seeds"]})
    cells: dict[tuple[str, str], dict[int | None, list[float]]] = {}
    for each in settings:
        row = cells.setdefault((each["measure"], each["findings"]), {})
        column = int(each["seeds"]) if each["seeds"] else None
        row.setdefault(column, []).append(float(each["value"]))
    tested = [(names, row) for names, row in cells.items() if None not in row]
    lines = [
        f"| Measure | Findings | {' | '.join(f'{count} seeds' for count in seeds)} |",
        f"|{'---|' * (len(seeds) + 2)}",
        *(
            f"| {' | '.join((*names, *(_span(row.get(count)) for count in seeds)))} |"
            for names, row in tested
        ),
    ]
    covered = ["| Measure | Findings | Share |", "|---|---|---|"] + [
        f"| {' | '.join((*names, _span(row[None])))} |"
        for names, row in cells.items()
        if None in row
    ]
    return {
        "simulation-count": settings[0]["simulations"],
        "simulation-table": "\n".join(lines),
        "simulation-coverage": "\n".join(covered),
    }


@lru_cache(maxsize=1)
def tuned_values() -> dict[str, str]:
    """Values of ``tuned.csv``: methods at their default and at their tuned learning rates."""
    with TUNED.open(encoding="utf-8", newline="") as stream:
        runs = list(csv.DictReader(stream))
    lines = [
        "| Data | Backbone | Method | default | tuned | learning rate, default | tuned |",
        "|---|---|---|---|---|---|---|",
    ]
    cells: dict[tuple[str, ...], dict[str, list[dict[str, str]]]] = {}
    for run in runs:
        title = f"{run['data']}, {_labels(float(run['label_fraction']))}"
        names = (title, run["backbone"], TUNING_METHODS[run["method"]].title)
        row = cells.setdefault(names, {})
        row.setdefault(run["settings"], []).append(run)
    for row_names, settings in cells.items():
        texts = [_seeds_text(settings.get(name, [])) for name in ("default", "tuned")]
        rates = [settings.get(name, [{"lr": ""}])[0]["lr"] or "–" for name in ("default", "tuned")]
        lines.append(f"| {' | '.join([*row_names, *texts, *rates])} |")
    return {"tuned-table": "\n".join(lines), "tuned-runs": str(len({run["run"] for run in runs}))}


def _seeds_text(runs: list[dict[str, str]]) -> str:
    """Mean test AUROC over seeds and half the width of its 95% interval: ``0.701 ± 0.012 (5)``."""
    if not runs:
        return "–"
    scores = [float(run["test_auroc"]) for run in runs]
    mean = seeds_paired(scores, [0.0] * len(scores)).difference
    return f"{mean.value:.3f} ± {mean.high - mean.value:.3f} ({len(scores)})"


def _span(values: list[float] | None) -> str:
    """The smallest and largest of several shares: ``2.3% to 5.0%``."""
    if not values:
        return "–"
    low, high = (f"{100 * each:.1f}%" for each in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _run(key: results_csv.Key) -> grid.TransferRun:
    """The run of the grid that a line of ``transfer.csv`` belongs to."""
    title, backbone, pretrained, method, fraction, epochs, seed, settings = key
    start = next(
        start
        for start in grid.STARTS
        if (start.backbone, start.pretrained) == (backbone, pretrained == "yes")
        and method in start.methods
    )
    names = {entry.title: name for name, entry in DATASETS.items()}
    # A registered folder is known by its registered name alone.
    data = {"name": names[title]} if title in names else {"name": "folder", "called": title}
    spec = RunSpec(
        data=DataSpec(**data, label_fraction=float(fraction)),
        model=ModelSpec(backbone=backbone, pretrained=start.pretrained),
        adapter=AdapterSpec(method=method),
        train=TrainSpec(epochs=int(epochs), seed=int(seed)),
    )
    return grid.TransferRun(start, spec, settings == "tuned")


def _gap_of_random(rows: list[grid.Row], data: str, fraction: float) -> float:
    """How far random weights are below the lowest pre-trained mean, as AUROC to three decimals."""
    means = [
        (row.start == "random weights", round(level.auroc.value, 3))
        for row in rows
        if row.data == data and row.start != grid.NO_BACKBONE and (level := row.curve.at(fraction))
    ]
    random = max(mean for is_random, mean in means if is_random)
    return min(mean for is_random, mean in means if not is_random) - random


def _difference(test: pairwise_tests.PairwiseTest) -> str:
    gap = test.difference
    return (
        f"{points(gap.value)} points ({test.data}, {_labels(test.fraction)}, from {test.start}; "
        f"95% interval over seeds {points(gap.low)} to {points(gap.high)})"
    )


def _verdict_table(tasks: list[dict[str, str]]) -> str:
    fractions = list(dict.fromkeys(_labels(float(task["label_fraction"])) for task in tasks))
    cells: dict[str, dict[str, str]] = {}
    for task in tasks:
        row = f"{backbone_card(task['backbone']).title}: {DATASETS[task['data']].title.lower()}"
        gap, low, high = (
            points(float(task[name])) for name in ("difference", "patients_low", "patients_high")
        )
        scores = f"{float(task['lora_auroc']):.3f} − {float(task['full_auroc']):.3f}"
        column = _labels(float(task["label_fraction"]))
        cells.setdefault(row, {})[column] = f"{scores}: {gap} ({low} to {high})"
    lines = [f"| Backbone: data | {' | '.join(fractions)} |", f"|{'---|' * (len(fractions) + 1)}"]
    for row, columns in cells.items():
        lines.append(f"| {' | '.join([row, *(columns[name] for name in fractions)])} |")
    return "\n".join(lines)


def _labels(fraction: float) -> str:
    return f"{100 * fraction:g}% of the labels"


def _percentages(interval: Interval) -> str:
    return f"{percent(interval.low)} to {percent(interval.high)}"


@lru_cache(maxsize=1)
def _rows() -> Mapping[str, Mapping[str, Any]]:
    """Rows of the benchmarks by name."""
    return {row["name"]: row for row in json.loads(BENCHMARKS.read_text("utf-8"))["rows"]}


def _benchmark(row: str, field: str, form: str) -> str:
    number: Any = _rows()[row]
    for word in field.split("."):
        number = number[int(word)] if isinstance(number, list) else number[word]
    return f"{number / 1e6:.0f} MB" if form == "MB" else format(number, form).replace("-", "−")


def _arithmetic() -> dict[str, str]:
    """Ranges of the share of the processor's peak over all measured training steps."""
    shares = {"cpu-float32-share": "share_of_float32_peak", "cpu-bf16-share": "share_of_peak"}
    values = {}
    for name, field in shares.items():
        each = [row["more"].get(field, math.nan) for row in _rows().values()]
        each = [share for share in each if not math.isnan(share)]
        values[name] = f"{min(each):.2f} to {max(each):.2f}"
    return values
