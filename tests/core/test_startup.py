"""Start-up: fewer garbage collections before and after the libraries are loaded."""

from tests.support.programs import output_of


def test_the_garbage_collector_runs_less_often_and_not_at_the_end() -> None:
    program = (
        "import atexit, gc; from core.startup import relax_garbage_collection;"
        "atexit.register(lambda: print(gc.get_freeze_count() > 0, gc.get_count()[0] < 5000));"
        "relax_garbage_collection(); print(gc.get_threshold()[0] > 10_000, gc.isenabled());"
        "made = [[] for _ in range(60_000)]; print(gc.get_count()[0] > 50_000)"
    )
    assert output_of(program).split() == ["True", "True", "True", "True", "True"]


def test_the_command_line_relaxes_the_garbage_collector() -> None:
    program = (
        "import gc, sys; sys.argv = ['core', '--help'];"
        "from core.cli.app import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "assert gc.get_threshold()[0] > 10_000"
    )
    output_of(program)
