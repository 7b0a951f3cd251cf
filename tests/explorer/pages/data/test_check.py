"""Checks run in the server and are shown in words, errors first."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from core.config.run import DataSpec
from core.data.checks import check as core_checks
from core.data.checks.report import Report
from core.data.problems import Problem
from explorer.pages.data.check import Check, Checks, panel


def ended(check: Check) -> Check:
    limit = time.monotonic() + 60
    while check.running and time.monotonic() < limit:
        time.sleep(0.02)
    assert not check.running
    return check


def test_a_check_is_found_again_by_its_data_set(own_folder: Path) -> None:
    checks = Checks()
    data = DataSpec(name="folder", root=own_folder)
    assert checks.latest(data) is None
    assert 'data-act="pictures"' in panel(None)
    (own_folder / "03.png").write_text("no picture")
    check = ended(checks.start(data, pixels=True))
    again = data.model_copy(update={"label_fraction": 0.5, "called": "ward"})
    assert checks.latest(again) is check
    assert check.report is not None
    assert (check.done, check.total) == (30, 30)
    html = panel(check)
    assert "1 error" in html
    assert "unreadable images" in html
    assert "03.png" in html
    assert "again" in html
    (own_folder / "03.png").unlink()
    second = ended(checks.start(data, pixels=False))
    assert second is not check
    assert "missing files" in panel(second)


def test_errors_come_first_and_names_are_escaped() -> None:
    faults = (
        Problem("extra files", "1 spare.", 9, ("<b>.png",), "Nothing.", error=False),
        Problem("empty classes", "None.", 1, ("Mass",), "Add some."),
    )
    check = Check(DataSpec(), pixels=True)
    check.report = Report("T", "s", 10, 9, 0, False, 1.0, faults)
    html = panel(check)
    assert html.index("empty classes") < html.index("extra files")
    assert "&lt;b&gt;.png" in html
    assert "and 8 more" in html
    assert "The check was stopped" in html


def test_a_check_shows_its_progress_and_can_be_stopped(
    own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    halfway, go_on = threading.Event(), threading.Event()
    real = core_checks.check

    def slow(*words: object, progress: object, should_stop: object, **named: object) -> Report:
        def tell(done: int, total: int) -> None:
            progress(done, total)  # type: ignore[operator]
            halfway.set()
            go_on.wait(30)

        return real(*words, progress=tell, should_stop=should_stop, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(core_checks, "check", slow)
    checks = Checks()
    first = checks.start(DataSpec(name="folder", root=own_folder), pixels=True)
    other = checks.start(DataSpec(name="folder", root=own_folder, labels="Mass"), pixels=True)
    assert halfway.wait(30)
    assert checks.start(first.data, pixels=True) is first
    html = panel(first)
    assert "of 30 images decoded" in html
    assert 'data-act="stop"' in html
    assert "Waiting for another check" in panel(other)
    first.stop()
    other.stop()
    go_on.set()
    report = ended(first).report
    assert report is not None
    assert report.decoded <= 30
    assert ended(other).report is not None


def test_the_reason_is_shown_when_a_check_fails(tmp_path: Path) -> None:
    checks = Checks()
    wrong = ended(checks.start(DataSpec(name="nih", root=tmp_path, split="mine"), pixels=False))
    assert "no split" in panel(wrong)
    closed = ended(checks.start(DataSpec(name="nih", root=tmp_path), pixels=False))
    assert "cannot be opened" in panel(closed)
