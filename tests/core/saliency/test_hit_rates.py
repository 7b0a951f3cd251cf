"""Hit rates of a run on its test split."""

import math
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from core.classifier.trained import Trained
from core.data.phantoms.dataset import Phantom
from core.errors import DataError
from core.saliency import hit_rates


def rows(hits: dict[str, dict[str, list[int]]]) -> pd.DataFrame:
    """Rows of maps from hits by finding and method; each study is of its own patient."""
    return pd.DataFrame(
        [
            {"run": "run", "method": method, "finding": finding, "study": f"{finding}{i}",
             "patient": f"{finding}{i}", "area": 0.1, "hit": float(hit), "energy": 0.1,
             "iou": 0.1, "best_iou": 0.1}
            for finding, methods in hits.items()
            for method, own in methods.items()
            for i, hit in enumerate(own)
        ]
    )  # fmt: skip


def test_findings_are_ordered_by_their_lead_over_the_gaussian() -> None:
    found = hit_rates.rates_of(
        rows(
            {
                "Mass": {"grad-cam": [1, 1, 1, 1, 1, 0], "centre-gaussian": [0] * 6},
                "Nodule": {"grad-cam": [0] * 6, "centre-gaussian": [0, 0, 0, 0, 0, 1]},
                "Edema": {"grad-cam": [1, 0, 0, 0, 0, 1], "centre-gaussian": [1, 0, 0, 0, 0, 0]},
            }
        )
    )
    assert [each.finding for each in found.findings] == ["Mass", "Edema", "Nodule"]
    first = found.findings[0]
    assert (first.studies, first.rate, first.baseline) == (6, pytest.approx(5 / 6), 0)
    assert first.better
    assert first.hits == tuple(f"Mass{i}" for i in range(5))
    assert found.best == first
    assert found.mean.studies == 18
    assert found.mean.rate == pytest.approx((5 / 6 + 2 / 6 + 0) / 3)
    nothing = hit_rates.rates_of(rows({"Mass": {"grad-cam": [0, 0], "centre-gaussian": [0, 1]}}))
    assert nothing.best is None
    assert not nothing.mean.better


def test_rates_are_measured_once_and_kept(
    untrained: Callable[..., Trained], phantoms: Phantom, tmp_path: Path
) -> None:
    trained = untrained()
    (tmp_path / "run").mkdir()
    held = []

    class Lock:
        def __enter__(self) -> None:
            held.append(threading.current_thread())

        def __exit__(self, *_: object) -> None:
            pass

    made = hit_rates.measure(trained, tmp_path / "run", phantoms, lock=Lock)
    assert len(held) == len(trained.findings)
    assert {each.finding for each in made.findings} <= set(trained.findings)
    assert all(1 <= each.studies <= hit_rates.STUDIES for each in made.findings)
    again = hit_rates.read(tmp_path / "run")
    assert again is not None
    assert [each.finding for each in again.findings] == [each.finding for each in made.findings]
    assert again.mean.rate == made.mean.rate
    assert math.isnan(again.mean.low) == math.isnan(made.mean.low)
    (tmp_path / "run" / hit_rates.FILE).write_text("{}")
    assert hit_rates.read(tmp_path / "run") is None


def test_nothing_marked_is_an_error(
    untrained: Callable[..., Trained], phantoms: Phantom, tmp_path: Path
) -> None:
    trained = untrained()
    with pytest.raises(DataError, match="marked region"):
        hit_rates.measure(replace(trained, findings=()), tmp_path, phantoms)
