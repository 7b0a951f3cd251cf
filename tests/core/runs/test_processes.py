"""A run's process: started, told from others, found dead or alive."""

import os
import subprocess
import sys

import pytest

from core.runs import processes


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has classes of priority, no numbers")
def test_who_gives_way_hands_it_on_to_what_it_starts() -> None:
    program = (
        "import subprocess, sys; from core.runs import processes; processes.give_way();"
        "said = [sys.executable, '-c', 'import os; print(os.nice(0))'];"
        "print(subprocess.check_output(said, text=True), end='')"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    said = subprocess.check_output([sys.executable, "-c", program], env=environment, text=True)
    assert said.strip() == "19"


def test_a_process_is_told_from_a_later_one_of_its_number() -> None:
    here = processes.own()
    assert processes.alive(here.pid, here.process)
    assert not processes.alive(here.pid, "another")
    assert not processes.alive(None, None)
