"""Several processes on one run: they give what one process gives."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from core.classifier.weights import read_state
from core.config.run import RunSpec
from core.errors import ConfigurationError, CoreError
from core.hardware.distributed import Processes, explain_lost_process, join
from core.runs.store import open_store
from core.training.loop import fine_tune
from core.workspace import BEST, RESULT, open_workspace
from tests.support.paths import ROOT
from tests.support.reporters import Notes

EXACT: dict[str, Any] = {
    "train__precision": "fp32", "train__drop_path": 0.0, "adapter__dropout": 0.0,
}  # fmt: skip
FULL = EXACT | {
    "adapter__method": "full", "train__optimizer": "sgd", "train__lr": 0.05,
    "train__loss": "focal", "train__class_weight": "balanced",
}  # fmt: skip
LORA = EXACT | {"train__lr": 0.01}


def launch(*words: object) -> subprocess.CompletedProcess[str]:
    """Run a module in two processes that know of each other."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run(
        [sys.executable, *launcher, *map(str, words)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return read_state(folder / BEST)[0]


def agree(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        torch.allclose(one[name], other[name], rtol=0, atol=1e-5) for name in one
    )


def test_each_process_takes_its_part_and_together_they_take_all() -> None:
    for count, studies in ((1, 5), (2, 7), (3, 2), (4, 128)):
        parts = [list(range(studies))[Processes(i, count).part(studies)] for i in range(count)]
        assert [one for part in parts for one in part] == list(range(studies))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_what_several_processes_cannot_do_as_one_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="3 processes were started for batches of 2"):
        Processes(0, 3).check_supported(nn.Linear(1, 1), 2)
    with pytest.raises(ConfigurationError, match="batch normalisation would train"):
        Processes(0, 2).check_supported(nn.Sequential(nn.BatchNorm2d(3)), 8)
    Processes(0, 2).check_supported(nn.Sequential(nn.BatchNorm2d(3)).requires_grad_(False), 8)
    Processes().check_supported(nn.BatchNorm2d(3), 1)


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "64")
    with pytest.raises(ConfigurationError, match="64 processes were started for"):
        join("auto", gpu=True)
    with pytest.raises(ConfigurationError, match="cannot share cuda:0"):
        join("cuda:0", gpu=True)


def test_the_death_of_another_process_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        with explain_lost_process():
            raise RuntimeError("[pair.cc:547] Connection closed by peer [127.0.1.1]:4711")

    with pytest.raises(RuntimeError, match="Connection closed"):
        fail()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(CoreError, match="Another process of this run has ended"):
        fail()


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(tiny: Callable[..., RunSpec], tmp_path: Path) -> None:
    plans = [
        ("lora", tiny(**LORA), None, False),
        ("stopped", tiny(**LORA), 3, False),
        ("stopped", tiny(**LORA), None, True),
        ("full", tiny(**FULL), None, False),
        ("many", tiny(**LORA, train__batch_size=1), None, False),
    ]
    jobs = [
        {"folder": str(tmp_path / name), "spec": spec.to_json(), "stop": stop, "resume": resume}
        for name, spec, stop, resume in plans
    ]
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    done = launch("-m", "tests.support.launched_run", tmp_path / "jobs.json", tmp_path / "cache")
    assert done.returncode == 0, done.stderr
    ends = [json.loads(line) for line in (tmp_path / "told.jsonl").read_text().splitlines()]
    assert [one["end"] for one in ends[:4]] == ["completed", "stopped", "completed", "completed"]
    assert "2 processes were started for batches of 1 images" in ends[4]["end"]

    for name, spec, rows in (("lora", tiny(**LORA), ends[0]), ("full", tiny(**FULL), ends[3])):
        notes, alone = Notes(), tmp_path / f"alone-{name}"
        result = fine_tune(spec, alone, tmp_path / "cache", notes)
        assert agree(weights(alone), weights(tmp_path / name))
        names, values = zip(*[row for row in rows["rows"] if "images_per" not in row[0]],
                            strict=True)  # fmt: skip
        assert list(names) == [row[0] for row in notes.curves()]
        assert np.allclose(values, [row[1] for row in notes.curves()], rtol=0, atol=1e-5)
        stored = json.loads((tmp_path / name / RESULT).read_text())
        assert stored["scores"] == result["scores"]
        for split in ("val", "test"):
            pair = [np.load(one / "predictions" / f"{split}.npz") for one in (alone,
                    tmp_path / name)]  # fmt: skip
            with pair[0] as one, pair[1] as other:
                assert list(one["ids"]) == list(other["ids"])
                assert np.allclose(one["scores"], other["scores"], rtol=0, atol=1e-5)
    assert agree(weights(tmp_path / "lora"), weights(tmp_path / "stopped"))


@pytest.mark.slow
def test_the_command_line_carries_out_one_run_in_two_processes(
    radiographs: Path, tmp_path: Path
) -> None:
    words = (
        f"train --json --workspace {tmp_path} --data folder --root {radiographs} "
        "--label-fraction 1 --backbone timm:test_vit --no-pretrained --input-size 64 --epochs 1 "
        "--batch-size 16 --device cpu"
    )
    done = launch("-m", "core", *words.split())
    assert done.returncode == 0, done.stderr
    (run,) = open_store(open_workspace(tmp_path), create=False).list()
    assert run.state == "completed"
    assert json.loads(done.stdout)["id"] == run.id
    assert "in 2 processes" in Path(run.log or "").read_text()
    assert [one.name for one in (tmp_path / "runs").iterdir()] == [run.id]
