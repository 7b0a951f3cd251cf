"""The training loop: what trains, what a run learns, and that a seed determines everything."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.classifier.weights import read_state
from core.reporter import NullReporter
from core.training import loop
from core.training.setup import setup
from core.workspace import BEST
from tests.support.reporters import Notes

Run = Callable[..., tuple[Path, dict[str, Any]]]


def test_a_run_learns_an_easy_finding(run: Run) -> None:
    _, result = run(
        adapter__method="full",
        train__epochs=8,
        train__batch_size=8,
        train__lr=1e-3,
        train__layer_decay=1.0,
        train__drop_path=0,
        train__augmentation="none",
    )
    assert result["scores"]["test"]["per_finding"]["Plate"] > 0.9
    assert result["best_auroc"] >= result["last_auroc"]


def test_lora_trains_only_its_own_matrices_and_the_classifier(tiny, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    spec = tiny(adapter__method="lora", train__lr=0.01).resolved()
    session = setup(spec, folder, tmp_path / "cache", NullReporter())
    before = {name: one.detach().clone() for name, one in session.model.state_dict().items()}
    loop.fit(session)
    after = session.model.state_dict()
    changed = {name for name, one in after.items() if not torch.equal(one, before[name])}
    assert changed == {name for name, one in session.model.named_parameters() if one.requires_grad}
    own = ("lora_A", "lora_B", "head.", "fc_norm.")
    assert all(any(part in name for part in own) for name in changed)
    assert {name.split(".lora_")[0][-6:] for name in changed if "lora" in name} == {
        ".qkv.q",
        ".qkv.v",
    }


def test_a_seed_decides_everything(run: Run) -> None:
    first, second = Notes(), Notes()
    folder, result = run("first", first)
    again, same = run("second", second)
    assert same["weights_sha256"] == result["weights_sha256"]
    assert second.curves() == first.curves()
    one, other = (read_state(place / BEST)[0] for place in (folder, again))
    assert all(torch.equal(one[name], other[name]) for name in one)
    _, other = run("third", train__seed=1)
    assert other["weights_sha256"] != result["weights_sha256"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "method",
    ["full", "linear", "dora", "adalora", "vblora", "oft", "boft", "fourierft", "ssf", "vpt"],
)
def test_mixed_precision_and_sgd_work_too(run: Run, method: str) -> None:
    folder, result = run(adapter__method=method, train__precision="bf16", train__optimizer="sgd")
    assert result["steps"] == 6
    state, _ = read_state(folder / BEST)
    assert {value.dtype for value in state.values()} == {torch.float32}


def test_a_method_s_own_part_is_told_apart_from_the_loss(tiny, tmp_path: Path) -> None:
    session = setup(tiny(adapter__method="adalora").resolved(), tmp_path, tmp_path, NullReporter())
    assert session.hook is not None
    assert setup(tiny().resolved(), tmp_path, tmp_path, NullReporter()).hook is None
    before = float(session.hook.penalty().detach())
    ids = session.ids["train"][:8]
    session.cache.ensure(ids, lambda done, total: None, lambda: False)
    inputs = session.inputs.evaluation(ids)
    targets = torch.from_numpy(session.dataset.labels(ids))
    loss = loop.training_step(session, inputs, targets, 0)
    assert 0.5 < float(loss) < 0.9  # of a head that knows nothing yet, without the penalty
    assert before > 0.9


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "folder"), [("nih", "nih_chestxray14"), ("rsna", "rsna_pneumonia")]
)
def test_real_radiographs_go_the_same_way(
    run: Run, real_data: Path, name: str, folder: str
) -> None:
    place, result = run(
        data__name=name, data__root=real_data / folder, adapter__method="linear", train__epochs=3
    )
    with np.load(place / "predictions" / "test.npz") as file:
        assert len(set(file["ids"])) == result["scores"]["test"]["studies"] > 20
        assert np.isfinite(file["scores"]).all()
    assert 0 < result["scores"]["test"]["auroc"] < 1
