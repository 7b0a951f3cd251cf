"""The command line that is equivalent to a specification."""

import shlex

import pytest
import typer
from typer.testing import CliRunner

from core.cli.options import with_settings
from core.config import command_line
from core.config.run import RunSpec

SPECS = [
    RunSpec(),
    RunSpec.of(**{"data.name": "folder", "data.root": "/data/with space/it's", "data.split": "a"}),
    RunSpec.of(**{"model.pretrained": False, "model.weights": "/a.pth", "model.input_size": 96}),
    RunSpec.of(**{"train.lr": 0.00012345678901234, "train.min_lr": 0.0, "adapter.alpha": 1 / 3}),
    RunSpec.of(**{"data.label_fraction": 0.1 + 0.2, "data.subset_seed": 0, "train.momentum": 0}),
    RunSpec.of(**{"train.device": "cuda:1", "train.precision": "bf16", "adapter.targets": "all"}),
    RunSpec.from_json(RunSpec().resolved().to_json()),
    RunSpec.of(**{"adapter.method": "full", "train.batch_size": 48}),
]


@pytest.mark.parametrize("spec", SPECS, ids=range(len(SPECS)))
def test_the_printed_command_starts_the_same_run(spec: RunSpec) -> None:
    line = command_line.command_line(spec)
    words = shlex.split(line)
    assert words[:4] == ["python", "-m", "core", "train"]
    seen: list[RunSpec] = []
    app = typer.Typer()

    @app.command()
    @with_settings()
    def keep(spec: RunSpec) -> None:
        seen.append(spec)

    result = CliRunner().invoke(app, words[4:])
    assert result.exit_code == 0, result.output
    assert seen == [spec]
    assert seen[0].fingerprint() == spec.fingerprint()


def test_the_command_names_what_differs() -> None:
    line = command_line.command_line(
        RunSpec.of(**{"adapter.rank": 8, "model.pretrained": False}), "submit"
    )
    assert line == (
        "python -m core submit --data phantom-14 --backbone embedded-mae --no-pretrained "
        "--method lora --rank 8"
    )
