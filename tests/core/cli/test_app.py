"""The command line, as a shell uses it: answers, JSON, exit codes, no traceback."""

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.runs.store import open_store
from core.workspace import open_workspace
from tests.support.paths import ROOT
from tests.support.programs import Answer, Cli, environment, run_python


def shell(*words: object) -> Answer:
    """Run the command line in a process of its own."""
    return run_python("-m", "core", *words)


def options(radiographs: Path, **changes: object) -> list[str]:
    """Options of ``train`` for a run of a second."""
    fields: dict[str, object] = {
        "data": "folder", "root": radiographs, "label-fraction": 1, "backbone": "timm:test_vit",
        "input-size": 64, "epochs": 2, "batch-size": 16, "device": "cpu",
    }  # fmt: skip
    fields |= {name.replace("_", "-"): value for name, value in changes.items()}
    pairs = [(f"--{name}", str(value)) for name, value in fields.items() if value is not None]
    return ["--no-pretrained", *(word for pair in pairs for word in pair)]


@pytest.fixture(scope="module")
def trained(radiographs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Answer]:
    """A workspace with one finished run, and what training it printed."""
    workspace = tmp_path_factory.mktemp("trained")
    place = ["--workspace", workspace, "--json", "--name", "first run"]
    return workspace, shell("train", *options(radiographs), *place)


@pytest.mark.parametrize(
    ("what", "names"),
    [
        ("backbones", {"embedded-mae", "embedded-mrm", "mrm", "cxr-mae"}),
        ("datasets", {"phantom-14", "nih", "rsna", "folder"}),
        ("methods", {"full", "linear", "lora"}),
    ],
)
def test_lists_are_one_json_value_or_a_table(cli: Cli, what: str, names: set[str]) -> None:
    assert {one["name"] for one in cli("list", what, "--json").json} >= names
    table = cli("list", what)
    assert table.code == 0
    assert names <= {line.split()[0] for line in table.out.splitlines()}


@pytest.mark.slow
def test_methods_are_counted_on_a_backbone(cli: Cli) -> None:
    words = ["list", "methods", "--backbone", "timm:densenet121", "--findings", "3"]
    found = {one["name"]: one for one in cli(*words, "--json").json}
    assert found["full"]["share"] == 1
    assert found["lora"]["targets"] == ["all"]
    assert found["lora"]["options"]["rank"] == 4
    assert not found["vpt"]["fits"]
    assert "patch tokens" in found["vpt"]["why"]
    table = cli(*words)
    assert f"{found['lora']['trainable']:,}" in table.out
    assert cli("list", "methods", "--backbone", "mrn").code == 1


def test_a_recipe_sets_what_is_not_given(cli: Cli, tmp_path: Path) -> None:
    words = ["submit", "--recipe", "paper", "--backbone", "mrm", "--label-fraction", "0.01"]
    place = ["--workspace", tmp_path / "workspace"]
    answer = cli(*words, "--data", "nih", "--root", "/nowhere", "--lr", "0.1", *place)
    assert answer.code == 1  # the folder is not there, but the recipe was told
    assert "Recipe paper (lora on mrm-nih-1): split paper, rank 4" in answer.err
    assert "Your settings are kept: lr 0.1 instead of 0.05." in answer.err
    none = cli(*words, "--data", "phantom-14", *place)
    assert (none.code, none.out) == (1, "")
    assert "It has: nih, chexpert, rsna." in none.err


@pytest.mark.slow
def test_a_shell_gets_json_on_one_stream_and_faults_on_the_other(tmp_path: Path) -> None:
    assert isinstance(shell("list", "methods", "--json").json, list)
    place = ["--workspace", tmp_path / "workspace"]
    refused = shell("train", "--method", "lorra", *place, "--json")
    assert (refused.code, refused.out) == (1, "")
    assert refused.err.startswith("Error: Unknown method “lorra”. Did you mean lora?")
    assert "Traceback" not in refused.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data": "phantom"}, "Unknown data set “phantom”. Did you mean phantom-"),
        ({"data": "nhi"}, "Did you mean nih?"),
        ({"backbone": "mrn"}, "Unknown backbone “mrn”. Did you mean mrm?"),
        ({"backbone": "timm:test_vitt"}, "timm:test_vit"),
        ({"method": "lore"}, "Did you mean lora?"),
        ({"label-fraction": 0}, "data.label_fraction: 0.0 is out of range; it must be above 0"),
        ({"label-fraction": 1.7}, "1.7 is out of range; it must be at most 1"),
        ({"rank": 512}, "Choose a rank of at most 64."),
        ({"input-size": 70}, "Choose 64 or 80."),
        ({"root": "/nowhere/at/all"}, "The folder /nowhere/at/all does not exist."),
        ({"root": None}, "needs a folder"),
        ({"weights": "/nowhere.pth"}, "There is no file /nowhere.pth."),
        ({"optimizer": "adam"}, "train.optimizer"),
        ({"warmup-epochs": 2}, "are too many for 2 epochs"),
        ({"device": "gpu"}, "train.device"),
    ],
    ids=str,
)
@pytest.mark.parametrize("verb", ["train", "submit"])
def test_what_cannot_work_is_refused_in_a_sentence(
    cli: Cli, radiographs: Path, tmp_path: Path, verb: str, changes: dict[str, object], said: str
) -> None:
    workspace = tmp_path / "workspace"
    answer = cli(verb, *options(radiographs, **changes), "--workspace", workspace, "--json")
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith("Error: ")
    assert said in answer.err
    assert not workspace.exists()


def test_training_ends_with_the_test_auroc_of_each_finding(
    trained: tuple[Path, Answer], cli: Cli
) -> None:
    workspace, answer = trained
    found = answer.json
    assert found["state"] == "completed"
    assert found["name"] == "first run"
    assert set(found["scores"]["test"]["per_finding"]) == {"Pneumonia", "Plate"}
    assert found["test_auroc"] == found["scores"]["test"]["auroc"]
    assert 0 < found["trainable"] < found["total"]
    assert found["attempts"] == 1
    assert "first run" in answer.err

    place = ["--workspace", workspace]
    (listed,) = cli("runs", *place, "--json").json
    assert listed.items() <= found.items()
    shown = cli("show", found["id"][:4], *place, "--json").json
    assert found.items() <= shown.items()
    assert shown["metric_rows"] == 2 * (3 * 2 + 5)
    assert len(shown["weights_sha256"]) == 64
    assert re.fullmatch(r"[\d.]+ GB at most, about [\d.]+ GB predicted", shown["memory"])
    text = cli("show", "first run", *place).out
    assert f"{found['test_auroc']:.3f}" in text
    assert "not for clinical use" in text
    table = cli("runs", *place).out
    assert found["id"] in table


def test_a_finished_run_is_scored_with_intervals(trained: tuple[Path, Answer], cli: Cli) -> None:
    workspace, answer = trained
    said = answer.json["scores"]
    for split in ("val", "test"):
        found = cli(
            "evaluate", "first run", "--split", split, "--workspace", workspace, "--json"
        ).json
        scores = {one["finding"]: one["auroc"]["value"] for one in found["findings"]}
        assert scores == pytest.approx(said[split]["per_finding"])
    text = cli("evaluate", "first run", "--workspace", workspace)
    assert text.code == 0
    assert "Plate" in text.out
    wrong = cli("evaluate", "first run", "--split", "dev", "--workspace", workspace)
    assert wrong.code == 1


@pytest.mark.slow
def test_a_finished_run_is_exported(trained: tuple[Path, Answer], cli: Cli, tmp_path: Path) -> None:
    workspace, answer = trained
    asked = ["export", "first run", "--workspace", workspace, "--format"]
    out = tmp_path / "out"
    written = cli(*asked, "merged", "--out", out, "--json").json
    assert written["folder"] == str(out)
    assert set(written["files"]) == {one.name for one in out.iterdir()} >= {"README.md"}
    assert written["difference"] < 1e-5
    taken = cli(*asked, "merged", "--out", out)
    assert (taken.code, taken.out) == (1, "")
    assert "Replace it with --force" in taken.err
    assert "adapter_model.safetensors" in cli(*asked, "peft", "--out", out, "--force").out
    own = cli(*asked, "merged", "--json").json
    assert own["folder"] == str(workspace / "runs" / answer.json["id"] / "export" / "merged")
    assert "Did you mean merged?" in cli(*asked, "mergd").err


@pytest.mark.slow
def test_a_run_is_explained_on_a_study_and_on_a_picture_of_ones_own(
    trained: tuple[Path, Answer], cli: Cli, radiographs: Path, tmp_path: Path
) -> None:
    workspace, _ = trained
    asked = ["explain", "first run", "--workspace", workspace, "--finding", "Plate"]
    out = tmp_path / "new" / "map.png"
    found = cli(*asked, "--study", "test-02.png", "--out", out, "--json").json
    assert found["finding"] == "Plate"
    assert 0 < found["probability"] < 1
    assert found["label"] in (0, 1)
    with Image.open(out) as drawn:
        assert drawn.format == "PNG"
    own = radiographs / "test-02.png"
    same = cli(*asked, "--image", own, "--out", out, "--json").json
    assert same["probability"] == pytest.approx(found["probability"], abs=1e-6)
    assert "probability" in cli(*asked, "--image", own, "--out", out).out

    noise = tmp_path / "noise.png"
    noise.write_bytes(np.random.default_rng(0).bytes(500))
    faults = [
        (["--image", noise], "noise.png"),
        (["--image", tmp_path / "none.png"], "none.png does not exist"),
        (["--study", "nobody"], "no study “nobody”"),
        ([], "Give either --study or --image."),
        (["--study", "test-02.png", "--method", "gradcam"], "Did you mean grad-cam"),
        (["--study", "test-02.png", "--finding", "Hernia"], "Its findings are: Pneumonia, Plate."),
    ]
    for words, said in faults:
        answer = cli(*asked, *words, "--out", out, "--json")
        assert (answer.code, answer.out) == (1, "")
        assert said in answer.err


def test_a_picture_that_is_none_fails_the_run_by_name(
    cli: Cli, radiographs: Path, tmp_path: Path
) -> None:
    root = tmp_path / "broken"
    shutil.copytree(radiographs, root)
    (root / "val-03.png").write_text("no picture")
    place = ["--workspace", tmp_path / "workspace"]
    answer = cli("train", *options(root), *place, "--json")
    assert (answer.code, answer.out) == (1, "")
    assert "val-03.png" in answer.err
    assert "Download or copy these files again" in answer.err
    (listed,) = cli("runs", *place, "--json").json
    assert listed["state"] == "failed"
    shown = cli("show", listed["id"], *place, "--json").json
    assert shown["failure_kind"] == "data"
    assert "val-03.png" in shown["failure"]
    refused = cli("evaluate", listed["id"], *place)
    assert refused.code == 1
    assert "no predictions" in refused.err


def test_a_run_that_may_goes_on_without_bad_pictures_and_records_which(
    cli: Cli, radiographs: Path, tmp_path: Path
) -> None:
    root = tmp_path / "broken"
    shutil.copytree(radiographs, root)
    whole = (root / "train-07.png").read_bytes()
    (root / "train-07.png").write_bytes(whole[: len(whole) // 2])
    (root / "train-09.png").unlink()
    (root / "val-03.png").write_text("no picture")
    (root / "test-02.png").write_bytes(b"")
    place = ["--workspace", tmp_path / "workspace"]
    refused = cli("train", *options(root), *place, "--json")
    assert refused.code == 1
    assert "train-09.png" in refused.err
    made = cli("prepare", *options(root), "--skip-bad", *place, "--json").json
    assert made == {"pictures": 67, "made": 64}
    run = cli("train", *options(root), "--skip-bad", *place, "--json").json
    assert run["spec"]["data"]["skip_bad"] is True
    assert {split: one["studies"] for split, one in run["scores"].items()} == {
        "val": 11,
        "test": 15,
    }
    folder = tmp_path / "workspace" / "runs" / run["id"]
    result = json.loads((folder / "result.json").read_text())
    assert result["images"] == 38
    words = {
        "train-09.png": "missing", "train-07.png": "incomplete", "val-03.png": "not an image",
        "test-02.png": "empty",
    }  # fmt: skip
    assert set(result["skipped"]) == set(words)
    log = (folder / "log.txt").read_text()
    for study, why in words.items():
        assert why in result["skipped"][study]
        assert f"{study}: {result['skipped'][study]}" in log


def test_a_data_set_is_cached_once_and_bad_pictures_are_named(
    cli: Cli, radiographs: Path, tmp_path: Path
) -> None:
    root = tmp_path / "broken"
    shutil.copytree(radiographs, root)
    words = ["data", "cache", "folder", "--root", root, "--workspace", tmp_path / "workspace"]
    first = cli(*words, "--json").json
    assert (first["pictures"], first["made"], first["side"], first["unreadable"]) == (
        68,
        68,
        144,
        {},
    )
    assert first["bytes"] > 68 * 144 * 144
    assert Path(first["folder"]).is_relative_to(tmp_path / "workspace")
    assert cli(*words, "--json").json["made"] == 0
    ready = cli("prepare", *options(root, backbone="embedded-mae", input_size=128),
                "--workspace", tmp_path / "workspace", "--json").json  # fmt: skip
    assert ready == {"pictures": 68, "made": 0}
    other = cli(*words, "--side", 64, "--json").json
    assert (other["made"], other["side"]) == (68, 64)
    (root / "val-03.png").write_text("no picture")
    (root / "val-04.png").touch()
    bad = cli(*words, "--json")
    assert bad.code == 1
    found = json.loads(bad.out)
    assert found["made"] == 1
    assert list(found["unreadable"]) == ["val-03.png"]
    told = cli(*words)
    assert told.code == 1
    assert "68 images with a shorter side of 144 px, 0 of them decoded now" in told.out
    assert "cannot be read: val-03.png: val-03.png is not an image" in told.out


@pytest.mark.slow
def test_a_running_run_is_stopped_resumed_and_completed(
    cli: Cli, radiographs: Path, tmp_path: Path
) -> None:
    place = ["--workspace", tmp_path / "workspace"]
    words = [*options(radiographs, epochs=40), *place, "--name", "long", "--json"]
    store = open_store(open_workspace(tmp_path / "workspace"), create=True)
    out, err = tmp_path / "out", tmp_path / "err"
    with out.open("w") as output, err.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "core", "train", *map(str, words)],
            cwd=ROOT, env=environment(), stdout=output, stderr=errors,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 240
        while not (store.list() and store.count_metrics(store.list()[0].id)):
            assert time.monotonic() < deadline
            assert process.poll() is None, err.read_text()
            time.sleep(0.05)
        refused = cli("delete", "long", *place)
        assert refused.code == 1
        assert "Stop it first" in refused.err
        assert cli("stop", "long", *place, "--json").json["state"] in ("stopping", "stopped")
        assert process.wait(timeout=120) == 0, err.read_text()
    finally:
        process.kill()
        process.wait()
    assert json.loads(out.read_text())["state"] == "stopped"
    again = cli("resume", "long", *place, "--json").json
    assert again["state"] == "queued"
    assert cli("resume", "long", *place).code == 1
    served = shell("serve", "--until-idle", *place)
    assert served.code == 0, served.err
    shown = cli("show", "long", *place, "--json").json
    assert (shown["state"], shown["attempts"]) == ("completed", 2)
    assert shown["scores"]["test"]["studies"] == 16
    assert shown["metric_rows"] == 40 * (3 * 2 + 5)


def test_a_queued_run_is_stopped_and_deleted(
    cli: Cli, radiographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = ["--workspace", tmp_path / "workspace"]
    monkeypatch.chdir(radiographs.parent)
    queued = cli("submit", *options(radiographs, root=radiographs.name), *place, "--json").json
    assert queued["state"] == "queued"
    shown = cli("show", queued["id"], *place, "--json").json
    assert shown["spec"]["data"]["root"] == str(radiographs)
    assert cli("stop", queued["id"], *place, "--json").json["state"] == "stopped"
    assert cli("stop", queued["id"], *place, "--json").code == 1
    assert cli("resume", queued["id"], *place, "--json").json["state"] == "queued"
    assert cli("stop", queued["id"], *place).code == 0
    assert cli("delete", queued["id"], *place, "--json").json == {"deleted": queued["id"]}
    assert cli("runs", *place, "--json").json == []


def test_a_data_set_is_checked_with_an_exit_code(
    cli: Cli, radiographs: Path, tmp_path: Path
) -> None:
    words = ["data", "check", "folder", "--root"]
    sound = cli(*words, radiographs, "--json").json
    assert (sound["errors"], sound["images"], sound["looked_at"]) == (0, 68, 68)
    root = tmp_path / "broken"
    shutil.copytree(radiographs, root)
    (root / "val-03.png").write_text("no picture")
    (root / "test-01.png").unlink()
    found = cli(*words, root)
    assert found.code == 1
    assert "unreadable images: 1 image cannot be read." in found.out
    assert "val-03.png" in found.out
    assert "test-01.png" in found.out
    assert cli(*words, root, "--metadata-only", "--json").code == 1
    wrong = cli("data", "check", "nhi", "--root", root)
    assert (wrong.code, wrong.out) == (1, "")
    assert "Did you mean nih?" in wrong.err


@pytest.mark.parametrize("verb", ["show", "stop", "resume", "delete", "evaluate", "export", "work"])
def test_an_unknown_run_is_said(cli: Cli, tmp_path: Path, verb: str) -> None:
    place = ["--workspace", tmp_path]
    cli("runs", *place)
    answer = cli(verb, "abcd1234", *place)
    assert (answer.code, answer.out) == (1, "")
    assert "abcd1234" in answer.err


def test_a_damaged_store_is_said_and_left_alone(
    cli: Cli, radiographs: Path, tmp_path: Path
) -> None:
    workspace = open_workspace(tmp_path)
    workspace.store.write_bytes(b"this is no store of runs" * 100)
    for words in (["runs"], ["train", *options(radiographs)], ["show", "x"], ["work", "x"]):
        answer = cli(*words, "--workspace", tmp_path)
        assert (answer.code, answer.out) == (1, "")
        assert "store" in answer.err
    assert workspace.store.read_bytes().startswith(b"this is no store")


def test_a_workspace_that_cannot_be_is_said(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    answer = cli("runs", "--workspace", tmp_path / "file" / "workspace")
    assert answer.code == 1
    assert "cannot be created" in answer.err


def test_the_workspace_may_stand_before_the_verb_and_the_verbs_own_wins(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXR_WORKSPACE", str(tmp_path / "default"))
    assert cli("--workspace", tmp_path / "before", "runs", "--json").json == []
    assert (tmp_path / "before" / "store.sqlite").exists()
    cli("--workspace", tmp_path / "unused", "runs", "--workspace", tmp_path / "after")
    assert {path.name for path in tmp_path.iterdir()} == {"before", "after"}
