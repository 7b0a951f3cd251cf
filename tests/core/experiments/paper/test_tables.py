"""The verdict in every format, and as a figure."""

import csv
import io
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from core.errors import ConfigurationError
from core.experiments.paper import claims, figure, results, tables, tasks
from core.experiments.paper.tables import Report
from core.formatting import points
from core.runs.store import Store
from core.workspace import Workspace

TASKS = (*tasks.MINIATURE[:3], tasks.find_task("mrm-nih-1"))


@pytest.fixture
def report(store: Store, workspace: Workspace, complete) -> Report:
    for task, skill in zip(TASKS[:3], (0.5, 1.0, 2.0), strict=True):
        for seed in range(3):
            complete(task.spec("full", seed=seed), skill=skill)
            complete(task.spec("lora", seed=seed), skill=2.0)
    outcomes = results.gather(TASKS, store.list(), workspace)
    return Report(claims.judge(outcomes), results.efficiency(outcomes), "python -m core paper")


@pytest.mark.parametrize("form", tables.FORMATS)
def test_every_format_says_difference_evidence_published_and_claims(
    report: Report, form: str
) -> None:
    text = tables.render(report, form)
    one = report.judgement.outcomes[0]
    assert one.verdict is not None
    if form == "csv":
        rows = list(csv.DictReader(io.StringIO(text)))
        assert [row["task"] for row in rows] == [task.name for task in TASKS]
        assert float(rows[0]["difference"]) == pytest.approx(one.verdict.difference.value, abs=1e-6)
        assert float(rows[3]["published_lora"]) == 0.806
        assert rows[3]["difference"] == ""
        return
    gap = points(one.verdict.difference.value)
    assert (gap if form != "latex" else gap.replace("−", "$-$")) in text
    assert "LoRA clearly better" in text
    assert "0.806" in text
    assert "+1.2" in text
    assert "not for clinical use" in text
    for ruling in report.judgement.rulings:
        assert ruling.status in text


def test_markdown_is_a_table_of_even_rows(report: Report) -> None:
    lines = tables.render(report, "markdown").split("\n\n")[0].splitlines()
    assert len(lines) == 2 + len(TASKS)
    assert len({line.count("|") for line in lines}) == 1
    assert "**+" in lines[2]


def test_latex_rows_have_as_many_cells_as_columns(report: Report) -> None:
    text = tables.render(report, "latex")
    head = text.split(r"\begin{tabular}{")[1].split("}")[0]
    body = text.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
    assert len(body) == len(TASKS)
    for line in body:
        assert line.count("&") == len(head) - 1
    assert "%" not in text.replace(r"\%", "").replace("% needs", "").replace("% For", "")


def test_published_columns_are_left_out_where_nothing_is_known(report: Report) -> None:
    small = report.judgement.outcomes[:3]
    text = tables.render(Report(claims.judge(small), (), "x"), "markdown")
    assert "Published" not in text.split("\n")[0]


def test_json_has_no_nan(report: Report) -> None:
    import json

    plain = tables.as_json(report)
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain["tasks"][3]["difference"] is None
    assert plain["wins"] == report.judgement.wins


def test_unknown_formats_are_refused(report: Report, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="markdown"):
        tables.render(report, "markdwon")
    with pytest.raises(ConfigurationError, match=r"\.png"):
        figure.draw(report, tmp_path / "figure.bmp")


@pytest.mark.slow
def test_the_figure_is_a_picture_and_a_drawing_with_words(report: Report, tmp_path: Path) -> None:
    figure.draw(report, tmp_path / "deep" / "figure.png")
    with Image.open(tmp_path / "deep" / "figure.png") as picture:
        assert picture.width > 1500
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 50
    figure.draw(report, tmp_path / "figure.svg")
    words = "".join(ElementTree.parse(tmp_path / "figure.svg").getroot().itertext())
    assert "LoRA clearly better" in words
    assert "test AUROC" in words
    assert "not for clinical use" in words
    again = tmp_path / "again.svg"
    figure.draw(report, again)
    assert again.read_bytes() == (tmp_path / "figure.svg").read_bytes()
