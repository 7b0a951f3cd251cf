"""``python -m core transfer``: what it would run, and what it has to say."""

from pathlib import Path

from tests.core.cli.conftest import Invoke
from tests.core.conftest import radiographs

__all__ = ["radiographs"]


def test_a_dry_run_names_each_run_and_judging_needs_none(
    invoke: Invoke, radiographs: Path, tmp_path: Path
) -> None:
    data = ["--data", f"folder={radiographs}", "--fractions", "1"]
    said = invoke("transfer", *data, "--seeds", "2", "--dry-run", "--json").json
    assert said["runs"] == len(said["new"]) == 24
    assert sum("random" in name for name in said["new"]) == 2
    assert sum(name.startswith("Pixels · folder") for name in said["new"]) == 2
    assert said["seconds"] > 0

    table = tmp_path / "made" / "transfer.md"
    said = invoke("transfer", *data, "--judge", "--out", table, "--json").json
    assert [row["auroc"] for row in said["rows"]] == [{}] * 12
    lines = table.read_text().splitlines()
    assert sum(line.startswith("|") for line in lines) == 14
    assert lines[-1] == "LoRA compared with attentive probe: no pair of runs is completed yet."
    assert [one["ahead"] for one in said["against"]] == [0, 0, 0, 0]


def test_what_is_no_data_set_is_answered_with_the_nearest(invoke: Invoke, tmp_path: Path) -> None:
    fault = invoke("transfer", "--data", "phantom-15").fault
    assert fault is not None
    assert "phantom-14" in fault.remedy
    assert "nowhere" in str(invoke("transfer", "--data", f"nih={tmp_path / 'nowhere'}").fault)


def test_figures_that_are_kept_are_neither_run_again_nor_lost(
    invoke: Invoke, radiographs: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "figures.csv"
    data = ["--data", f"folder={radiographs}", "--fractions", "1", "--figures", kept]
    assert invoke("transfer", *data, "--judge", "--json").json["rows"][0]["auroc"] == {}
    head = kept.read_text()
    title = invoke("transfer", *data, "--judge", "--json").json["rows"][0]["data"]
    lines = [
        f"{title},embedded-mae,yes,linear,1,30,0,default,0.00056,0.700000",
        f"{title},embedded-mae,yes,linear,1,30,1,default,0.00056,0.720000",
        "elsewhere,embedded-mae,yes,linear,1,30,1,default,,0.600000",
    ]
    kept.write_text(head + "\n".join(lines) + "\n")

    assert invoke("transfer", *data, "--seeds", "2", "--dry-run", "--json").json["runs"] == 24
    assert len(invoke("transfer", *data, "--seeds", "2", "--dry-run", "--json").json["new"]) == 22
    said = invoke("transfer", *data, "--seeds", "2", "--judge", "--json").json
    assert said["rows"][0]["auroc"]["1"]["mean"] == 0.71
    assert said["rows"][0]["share"] == 0.00056
    assert kept.read_text() == head + "\n".join(lines) + "\n"


def test_a_file_that_holds_no_figures_is_refused(
    invoke: Invoke, radiographs: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "figures.csv"
    data = ["--data", f"folder={radiographs}", "--fractions", "1", "--figures", kept, "--judge"]
    kept.write_text("seed,auroc\n0,0.7\n")
    assert "first line" in str(invoke("transfer", *data).fault)
    assert kept.read_text() == "seed,auroc\n0,0.7\n"
    kept.unlink()
    invoke("transfer", *data)
    kept.write_text(kept.read_text() + "folder,embedded-mae,yes,linear,1,30,0,default,,7\n")
    assert "Line 2" in str(invoke("transfer", *data).fault)
