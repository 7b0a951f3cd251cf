"""A run's process: started, told from others, found dead or alive."""

from core.runs import processes


def test_a_process_is_told_from_a_later_one_of_its_number() -> None:
    here = processes.own()
    assert processes.alive(here.pid, here.process)
    assert not processes.alive(here.pid, "another")
    assert not processes.alive(None, None)
