"""A run's process: started, told from others, found dead or alive."""

from pathlib import Path

from core.runs import processes


def test_a_process_is_told_from_a_later_one_of_its_number() -> None:
    here = processes.own()
    assert processes.alive(here.pid, here.process)
    assert not processes.alive(here.pid, "another")
    assert not processes.alive(None, None)


def test_the_last_line_of_a_log_is_found(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    assert processes.last_line(log) == ""
    log.write_bytes(b"x" * 9000 + b"\nfirst\n  last \xff words\n\n \n")
    assert processes.last_line(log) == "last \ufffd words"
