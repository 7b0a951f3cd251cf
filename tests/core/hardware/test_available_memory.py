"""Memory of the host within control groups, and the peak of the process."""

from pathlib import Path

import pytest

from core.hardware import available_memory


def test_a_control_group_bounds_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process, groups = tmp_path / "proc", tmp_path / "groups"
    inner = groups / "outer" / "inner"
    inner.mkdir(parents=True)
    process.mkdir()
    (process / "cgroup").write_text("0::/outer/inner\n")
    (inner / "memory.max").write_text("max\n")
    (inner.parent / "memory.max").write_text("1000\n")
    (inner.parent / "memory.current").write_text("700\n")
    (inner.parent / "memory.stat").write_text("anon 600\ninactive_file 100\n")
    monkeypatch.setattr(available_memory, "PROCESS", process)
    monkeypatch.setattr(available_memory, "GROUPS", groups)
    assert available_memory.host() == available_memory.Capacity(1000, 400)


def test_the_peak_of_a_process_is_at_least_what_it_has_now() -> None:
    held = bytearray(50_000_000)
    before = available_memory.peak()
    held[:] = b"x" * len(held)
    del held
    assert available_memory.peak() >= before > 50_000_000
