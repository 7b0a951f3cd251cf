"""``python -m core transfer``: what it would run, and what it has to say."""

from collections.abc import Callable
from pathlib import Path

from tests.core.commands.conftest import Said
from tests.core.conftest import radiographs

__all__ = ["radiographs"]


def test_a_dry_run_names_each_run_and_judging_needs_none(
    cli: Callable[..., Said], radiographs: Path, tmp_path: Path
) -> None:
    data = ["--data", f"folder={radiographs}", "--fractions", "1"]
    said = cli("transfer", *data, "--seeds", "2", "--dry-run", "--json").json
    assert said["runs"] == len(said["new"]) == 14
    assert sum("random" in name for name in said["new"]) == 2
    assert said["seconds"] > 0

    table = tmp_path / "made" / "transfer.md"
    said = cli("transfer", *data, "--judge", "--out", table, "--json").json
    assert [row["auroc"] for row in said["rows"]] == [{}] * 7
    assert len(table.read_text().splitlines()) == 9


def test_what_is_no_data_set_is_answered_with_the_nearest(
    cli: Callable[..., Said], tmp_path: Path
) -> None:
    fault = cli("transfer", "--data", "phantom-15").fault
    assert fault is not None
    assert "phantom-14" in fault.remedy
    fault = cli("transfer", "--data", f"nih={tmp_path / 'nowhere'}").fault
    assert fault is not None
    assert "nowhere" in str(fault)
