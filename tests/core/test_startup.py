"""Processes that start and end without looking through what stays."""

import subprocess
import sys


def test_garbage_is_looked_for_seldom_and_not_at_the_end() -> None:
    program = (
        "import atexit, gc; from core.startup import relax_garbage_collection;"
        "atexit.register(lambda: print(gc.get_freeze_count() > 0, gc.get_count()[0] < 5000));"
        "relax_garbage_collection(); print(gc.get_threshold()[0] > 10_000, gc.isenabled());"
        "made = [[] for _ in range(60_000)]; print(gc.get_count()[0] > 50_000)"
    )
    told = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert told.stdout.decode().split() == ["True", "True", "True", "True", "True"]


def test_the_command_line_does_so() -> None:
    program = (
        "import gc, sys; sys.argv = ['core', '--help'];"
        "from core.cli.app import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "sys.exit(0 if gc.get_threshold()[0] > 10_000 else 1)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
