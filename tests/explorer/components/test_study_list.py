"""The order of the listed studies."""

from __future__ import annotations

import numpy as np
import pytest

from core.data.phantoms.dataset import Phantom
from explorer.components import study_list
from explorer.components.model_cache import Predictions

FINDING = "Effusion"


@pytest.fixture(scope="module")
def data() -> Phantom:
    return Phantom("phantom-14", train=1, val=1, test=40, size=64)


def predictions(data: Phantom, scores: np.ndarray) -> Predictions:
    ids = tuple(data.ids("test"))
    labels = data.labels(ids)[:, [data.findings.index(FINDING)]]
    return Predictions(ids, (FINDING,), labels, scores[:, None].astype(np.float32))


def listed(
    data: Phantom, order: str, *scores: np.ndarray, thresholds: tuple[float, ...] = ()
) -> list:
    given = [predictions(data, one) for one in scores]
    return study_list.studies(
        data, "test", finding=FINDING, present=False, marked=False, order=order,
        predictions=given, thresholds=thresholds,
    )  # fmt: skip


def truth(data: Phantom) -> np.ndarray:
    return data.labels(data.ids("test"))[:, data.findings.index(FINDING)]


def test_studies_where_only_one_run_is_correct_come_first(data: Phantom) -> None:
    label = truth(data)
    ids = data.ids("test")
    good = np.where(label == 1, 0.3, 0.1)  # correct at its own operating point of 0.2
    bad = good.copy()
    wrong = [1, 5, 9]
    bad[wrong] = np.where(label[wrong] == 1, 0.15, 0.35)
    bad[5] = 0.01 if label[5] == 1 else 0.99  # the largest error
    found = listed(data, "gained", good, bad, thresholds=(0.2, 0.2))
    assert found[0] == ids[5]
    assert set(found[:3]) == {ids[i] for i in wrong}
    assert sorted(found) == sorted(ids)
    both = [predictions(data, good), predictions(data, bad)]
    count = study_list.count_decided(data, ids, FINDING, "gained", both, (0.2, 0.2))
    assert count == 3
    assert study_list.count_decided(data, ids, FINDING, "lost", both, (0.2, 0.2)) == 0
    assert study_list.count_decided(data, ids, FINDING, "lost", both[::-1], (0.2, 0.2)) == 3
    assert study_list.count_decided(data, ids, FINDING, "wrong", both, (0.2, 0.2)) is None


def test_orders_by_disagreement_and_by_error(data: Phantom) -> None:
    label, ids = truth(data), data.ids("test")
    first = np.full(len(ids), 0.5)
    second = first.copy()
    second[7] = 0.9
    assert listed(data, "disagree", first, second)[0] == ids[7]
    first[3] = 1 - label[3]
    assert listed(data, "wrong", first)[0] == ids[3]
    assert listed(data, "listed") == ids


def test_one_run_has_no_orders_of_two() -> None:
    assert not {name for _, name in study_list.orders(["LoRA"])} & set(study_list.PAIRED)
    titles = [title for title, _ in study_list.orders(["LoRA", "full", "linear"])]
    assert "LoRA correct, full wrong" in titles
    assert "full correct, LoRA wrong" in titles


def test_steps_are_cyclic() -> None:
    assert study_list.step(["a", "b"], "b", 1) == "a"
    assert study_list.step(["a", "b"], "a", -1) == "b"
    assert study_list.step(["a", "b"], "gone", 1) == "a"
    assert study_list.step([], "a", 1) is None
