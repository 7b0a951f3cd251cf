"""The losses over known labels, and the end of a run whose loss is not finite."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.errors import NotFiniteError, Stopped
from core.models.backbones.build import network
from core.models.backbones.registry import backbone_card
from core.training.loss import LOSSES, TrainingLoss, balanced_weights, masked_loss
from tests.support.reporters import Notes

Run = Callable[..., tuple[Path, dict[str, Any]]]


def test_the_loss_counts_only_labels_that_are_known() -> None:
    logits = torch.tensor([[2.0, -1.0], [0.5, 3.0]], requires_grad=True)
    nan = float("nan")
    loss = masked_loss(logits, torch.tensor([[1.0, nan], [nan, 0.0]]))
    expected = (np.log1p(np.exp(-2.0)) + np.log1p(np.exp(3.0))) / 2
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient[0, 1] == gradient[1, 0] == 0
    assert gradient[0, 0] < 0 < gradient[1, 1]
    assert masked_loss(logits, torch.full((2, 2), nan)).item() == 0


def test_focal_and_asymmetric_are_their_papers_formulas() -> None:
    logits, truth = torch.tensor([[-3.0, 0.4, 2.0, 1.5]]), torch.tensor([[1.0, 0.0, 1.0, 0.0]])
    p = 1 / (1 + np.exp(-logits.double().numpy()))
    y = truth.numpy() == 1
    right = np.where(y, p, 1 - p)
    focal = -((1 - right) ** 2) * np.log(right)  # Lin et al. 2017, equation 4
    shifted = np.maximum(p - 0.05, 0)  # Ridnik et al. 2021, equations 5 to 7
    asymmetric = np.where(y, -np.log(p), -(shifted**4) * np.log(1 - shifted))
    for kind, expected in (("focal", focal), ("asymmetric", asymmetric)):
        assert LOSSES[kind](logits, truth).numpy() == pytest.approx(expected, rel=1e-5)
    assert LOSSES["asymmetric"](torch.tensor([-4.0]), torch.zeros(1)).item() == 0
    extreme = torch.tensor([200.0, -200.0, 200.0, -200.0], requires_grad=True)
    for kind in LOSSES:
        loss = LOSSES[kind](extreme, torch.tensor([1.0, 1.0, 0.0, 0.0])).sum()
        (gradient,) = torch.autograd.grad(loss, extreme)
        assert torch.isfinite(loss)
        assert torch.isfinite(gradient).all()


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    compute = pytest.importorskip("sklearn.utils.class_weight").compute_class_weight
    labels = (np.random.default_rng(0).random((50, 3)) < (0.1, 0.5, 0)).astype(np.float32)
    labels[:7, 0] = np.nan
    weights = balanced_weights(labels).numpy()
    for finding in (0, 1):
        known = labels[~np.isnan(labels[:, finding]), finding]
        expected = compute("balanced", classes=np.array([0.0, 1.0]), y=known)
        assert weights[:, finding] == pytest.approx(expected, rel=1e-6)
    assert weights[:, 2].tolist() == [1, 1]  # a finding without positives
    assert balanced_weights(np.empty((0, 2), np.float32)).tolist() == [[1, 1], [1, 1]]


def test_both_labels_count_equally_and_unknown_ones_not_at_all() -> None:
    labels = np.array([[1, np.nan], [0, 0], [0, 1], [0, 0]], np.float32)
    loss = TrainingLoss("bce", balanced_weights(labels))
    logits, targets = torch.zeros((4, 2), requires_grad=True), torch.tensor(labels)
    value = loss(logits, targets)
    assert value.item() == pytest.approx(np.log(2))  # the mean weight is 1
    (gradient,) = torch.autograd.grad(value, logits)
    assert gradient.sum(dim=0).abs().max() < 1e-7  # positives and negatives are in balance
    assert gradient[0, 1] == 0
    parts = [loss(logits[i : i + 2], targets[i : i + 2], known=7) for i in (0, 2)]
    assert sum(part.item() for part in parts) == pytest.approx(value.item())


@pytest.mark.parametrize("loss", ["focal", "asymmetric"])
def test_a_run_with_another_loss_resumes_equal_and_validates_with_cross_entropy(
    run: Run, loss: str
) -> None:
    options = {"train__loss": loss, "train__class_weight": "balanced", "train__lr": 1e-6}
    whole, stopped, plain = Notes(), Notes(stop=3), Notes()
    _, result = run("whole", whole, **options)
    with pytest.raises(Stopped):
        run("stopped", stopped, **options)
    stopped.stop = None
    assert (
        run("stopped", stopped, resume=True, **options)[1]["weights_sha256"]
        == (result["weights_sha256"])
    )
    assert stopped.curves() == whole.curves()
    run("plain", plain, train__lr=1e-6)
    first = [{row[0]: row[1] for row in notes.metrics} for notes in (whole, plain)]
    assert first[0]["val/loss"] == pytest.approx(first[1]["val/loss"], abs=1e-3)
    assert first[0]["train/loss"] < 0.8 * first[1]["train/loss"]


def overflowing_weights(path: Path) -> Path:
    """Weights that are finite, with outputs that are not."""
    state = network(backbone_card("timm:test_vit"), 2, 64).state_dict()
    state["patch_embed.proj.weight"].fill_(3e38)
    torch.save(state, path)
    return path


@pytest.mark.parametrize("method", ["full", "linear"])
def test_a_loss_that_is_not_a_number_ends_the_run(run: Run, tmp_path: Path, method: str) -> None:
    weights = overflowing_weights(tmp_path / "weights.pth")
    with pytest.raises(NotFiniteError, match="not finite at step 1") as caught:
        run(adapter__method=method, model__pretrained=True, model__weights=weights)
    assert "Lower the learning rate" in caught.value.remedy
    assert caught.value.field == "train.lr"
