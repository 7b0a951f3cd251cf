"""``models check``: the report of every key, the features, and the comparison with a reference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from core.models.backbones.build import build_backbone
from core.models.backbones.locate_weights import locate
from core.models.backbones.registry import BACKBONES, provenance
from tests.support import paths
from tests.support.programs import Cli

GOLDEN = paths.GOLDEN / "models"


@pytest.fixture
def check(cli: Cli) -> Cli:
    return lambda *words: cli("models", "check", *words)


@pytest.mark.slow
def test_an_embedded_backbone_by_name_and_by_file(check: Cli) -> None:
    code, out, _ = check("embedded-mae", "--json")
    assert code == 0
    value: dict[str, Any] = json.loads(out)
    assert value["report"]["sha256"] == provenance("embedded-mae")["sha256"]
    assert len(value["report"]["matched"]) == 148
    assert value["report"]["missing"] == ["fc_norm.weight", "fc_norm.bias", "head.weight",
                                         "head.bias"]  # fmt: skip
    assert value["features"]["length"] == 192
    assert value["card"]["licence"]
    weights = locate(BACKBONES["embedded-mae"], None)
    code, out, _ = check(weights, "--json")
    assert code == 0
    again = json.loads(out)
    assert again["backbone"] == "embedded-mae"
    assert again["features"] == value["features"]
    assert again["picture_sha256"] == value["picture_sha256"]


@pytest.mark.slow
def test_the_report_as_text(check: Cli) -> None:
    code, out, _ = check("embedded-mae")
    assert code == 0
    for line in ("matched     148", "missing     4  fc_norm.weight", "unexpected  0", "SHA-256",
                 "192 features", "It has seen no phantom of the data sets"):  # fmt: skip
        assert line in out


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mrm_tiny.pth", "cxr_mae_tiny.pth"])
def test_a_golden_checkpoint_against_the_reference(name: str, check: Cli) -> None:
    code, out, _ = check(GOLDEN / name, "--against", GOLDEN / "reference.safetensors", "--json")
    assert code == 0
    value = json.loads(out)
    assert value["holds"]
    assert all(row["difference"] <= row["allowed"] for row in value["differences"].values())
    assert "logits with LoRA, merged" in value["differences"]
    code, out, _ = check("cxr-mae", "--weights", GOLDEN / name, "--against",
                         GOLDEN / "reference.safetensors")  # fmt: skip
    assert code == 0
    assert out.count("equal") == 4


def test_a_difference_ends_with_exit_code_1(check: Cli, tmp_path: Path) -> None:
    held = torch.load(GOLDEN / "cxr_mae_tiny.pth", weights_only=True)["model"]
    held["pos_embed"] += 0.1 * torch.randn_like(held["pos_embed"])
    torch.save({"model": held}, tmp_path / "other.pth")
    code, out, _ = check(tmp_path / "other.pth", "--against", GOLDEN / "reference.safetensors")
    assert code == 1
    assert "DIFFERENT" in out


@pytest.mark.slow
def test_a_file_that_fits_several_backbones_lists_them(check: Cli, tmp_path: Path) -> None:
    model, _ = build_backbone(BACKBONES["mrm"], 1, pretrained=False)
    torch.save(model.state_dict(), tmp_path / "vit.pth")
    code, out, _ = check(tmp_path / "vit.pth")
    assert code == 0
    assert "also fits cxr-mae, medical-mae-b" in out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["mrm"], "not included"),
        (["embeded-mae"], "Did you mean embedded-mae?"),
        (["nowhere.pth"], "nowhere.pth does not exist"),
        ([GOLDEN / "mrm_tiny.pth"], "fits none of the backbones"),
        (["mrm", "--weights", GOLDEN / "mrm_tiny.pth"], "lacks"),
        (["mrm", "--weights", "nowhere.pth", "--against", GOLDEN / "reference.safetensors"],
         "nowhere.pth does not exist"),
        ([GOLDEN / "mrm_tiny.pth", "--against", GOLDEN / "reference.json"],
         "not a checkpoint"),
    ],
)  # fmt: skip
def test_errors_are_reported_without_a_traceback(
    words: list[object], message: str, check: Cli
) -> None:
    code, _, err = check(*words)
    assert code == 1
    assert message in err
