import os
from pathlib import Path

import pytest

from core.runs import slots
from core.runs.slots import CPU, Devices, Gpu

GPUS = (Gpu("cuda:0", "GPU-a", 40 << 30), Gpu("cuda:1", "GPU-b", 1 << 30))


def test_a_machine_without_a_gpu_has_its_processor() -> None:
    assert Devices(2, ()).slots() == {CPU: 2}
    assert Devices(2, ()).environment("auto", CPU) == {}
    assert slots.suitable_slots("cuda", {CPU: 2}) == [CPU]


def test_a_gpu_that_others_fill_takes_no_run() -> None:
    assert Devices(2, GPUS).slots() == {"cuda:0": 2, "cuda:1": 0, CPU: 2}


@pytest.mark.parametrize(
    ("device", "names"),
    [
        ("auto", ["cuda:0", "cuda:1"]),
        ("cuda", ["cuda:0", "cuda:1"]),
        ("cuda:1", ["cuda:1"]),
        ("cpu", [CPU]),
        ("cuda:7", ["cuda:0", "cuda:1"]),
    ],
)
def test_a_run_goes_where_it_asks_to(device: str, names: list[str]) -> None:
    assert slots.suitable_slots(device, {"cuda:0": 1, "cuda:1": 1, CPU: 1}) == names


def test_a_run_sees_the_gpu_of_its_slot() -> None:
    devices = Devices(1, GPUS)
    assert devices.environment("auto", "cuda:1") == {"CUDA_VISIBLE_DEVICES": "GPU-b"}
    assert devices.environment("cuda:1", "cuda:1") == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert devices.environment("cpu", CPU) == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the driver's program prints on a machine with two GPUs."""
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho '0, GPU-aa11, 81000'\necho '1, GPU-bb22, [N/A]'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.usefixtures("smi")
@pytest.mark.parametrize(
    ("visible", "identities"),
    [(None, ["GPU-aa11", "GPU-bb22"]), ("1", ["GPU-bb22"]), ("GPU-bb,0", ["GPU-bb22", "GPU-aa11"]),
     ("", [])],
)  # fmt: skip
def test_the_gpus_that_this_process_may_use_are_found(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, identities: list[str]
) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = slots.list_gpus()
    assert [one.identity for one in found] == identities
    assert [one.slot for one in found] == [f"cuda:{i}" for i in range(len(identities))]


@pytest.mark.usefixtures("smi")
def test_memory_is_read() -> None:
    assert [one.free_bytes for one in slots.list_gpus()] == [81000 << 20, slots.MIN_FREE_BYTES]
