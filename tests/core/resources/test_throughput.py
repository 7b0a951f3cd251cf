"""How fast the machine is, measured once in each precision."""

import json
from pathlib import Path

import pytest

from core.resources import throughput


@pytest.mark.parametrize("damage", ["[]", '{"cpu bf16": 0.0, "gpu bf16": 5.0}', "{"])
def test_it_is_measured_once_and_a_damaged_note_of_it_replaced(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "speed.json"
    file.write_text(damage)
    measured = throughput.operations_per_second(tmp_path, "bf16", gpu=False)
    assert measured > 0
    known = json.loads(file.read_text())
    assert known["cpu bf16"] == measured
    assert known.get("gpu bf16") == (5 if "gpu" in damage else None)
    file.write_text('{"cpu fp32": 123.0, "cpu bf16": 456.0}')
    assert throughput.operations_per_second(tmp_path, "fp32", gpu=False) == 123
    assert throughput.operations_per_second(tmp_path, "bf16", gpu=False) == 456


def test_operations_grow_with_the_tokens_and_attention_with_their_square() -> None:
    small, large = (throughput.forward_operations("embedded-mae", size) for size in (64, 128))
    assert (64 + 1) / (16 + 1) < large / small < ((64 + 1) / (16 + 1)) ** 2
