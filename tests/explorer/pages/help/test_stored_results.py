"""Numbers that the documentation takes from stored results."""

import csv
import statistics

import pytest

from explorer.pages.help import stored_results
from explorer.pages.help.stored_results import expand, value


def test_a_cell_of_the_transfer_table_is_the_mean_of_its_lines() -> None:
    with stored_results.TRANSFER.open(encoding="utf-8", newline="") as stream:
        lines = [
            float(line["test_auroc"])
            for line in csv.DictReader(stream)
            if (line["data"], line["backbone"], line["method"], line["label_fraction"])
            == ("NIH ChestX-ray14", "embedded-mae", "lora", "1")
        ]
    assert len(lines) == 5
    row = next(
        row for row in value("transfer-table").splitlines() if row.startswith("| NIH ChestX-ray14")
    )
    position = value("transfer-table").splitlines().index(row)
    cells = value("transfer-table").splitlines()[position + 1].split(" | ")
    assert cells[2] == "LoRA"
    assert cells[-1].startswith(f"{statistics.mean(lines):.3f} ± ")
    assert cells[-1].endswith("(5) |")


def test_wins_of_the_verdict_are_those_of_the_file() -> None:
    with stored_results.VERDICT.open(encoding="utf-8", newline="") as stream:
        gaps = [float(line["difference"]) for line in csv.DictReader(stream)]
    assert value("verdict-wins") == f"{sum(gap > 0 for gap in gaps)} of {len(gaps)}"
    assert value("verdict-mean") == f"{100 * statistics.mean(gaps):+.1f}"
    assert value("verdict-table").count("\n") == 7


def test_a_benchmark_is_given_in_the_format_that_the_page_names() -> None:
    loop = stored_results._rows()["end-to-end/loop/budget"]
    text = (
        "{{ cpu end-to-end/loop/budget ratio .1f }} × ({{ cpu end-to-end/loop/budget ours .0f }} s)"
    )
    expected = f"{loop['baseline'] / loop['ours']:.1f} × ({loop['ours']:.0f} s)"
    assert expand(text) == expected
    peak = loop["more"]["peak_bytes"]
    assert value("cpu end-to-end/loop/budget more.peak_bytes MB") == f"{peak / 1e6:.0f} MB"
    assert value("cpu auroc/loop more.difference_spread.0 .3f").startswith("−0.")


def test_a_name_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(KeyError):
        expand("{{ transfer-nothing }}")
    assert expand("`RunSpec.of(**{...})` stays") == "`RunSpec.of(**{...})` stays"
