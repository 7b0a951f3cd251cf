"""Scores of a run and differences of two, from predictions on disk."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from core.errors import ConfigurationError, DataError
from core.evaluation import evaluate
from core.evaluation.predictions import read_predictions
from core.metrics.auroc import macro, per_finding


def test_scores_are_those_of_the_predictions(predict) -> None:
    folder = predict("a", skill=1.5)
    scores = evaluate.evaluate_run(folder, "test")
    found = read_predictions(folder, "test")
    each = per_finding(found.labels, found.scores)
    assert scores.macro.value == pytest.approx(macro(each))
    assert scores.macro.low < scores.macro.value < scores.macro.high
    assert (scores.studies, scores.patients) == (400, len(set(found.patients)))
    effusion, _, hernia = scores.findings
    assert effusion.auroc.value == pytest.approx(each[0])
    assert effusion.auroc.low < effusion.auroc.value < effusion.auroc.high
    assert effusion.positives == int(found.labels[:, 0].sum())
    assert hernia.positives == 0
    assert math.isnan(hernia.auroc.value)


def test_the_threshold_comes_from_validation(predict) -> None:
    folder = predict("a", skill=1.5)
    for rule in ("youden", "sensitivity"):
        point = evaluate.evaluate_run(folder, "test", rule=rule).findings[0].point
        val = evaluate.evaluate_run(folder, "val", rule=rule).findings[0].point
        assert point.threshold == val.threshold
        assert point.sensitivity != val.sensitivity
    assert val.sensitivity >= 0.9


def test_without_validation_there_is_no_operating_point(predict) -> None:
    folder = predict("a", skill=1.5, splits=("test",))
    scores = evaluate.evaluate_run(folder)
    assert math.isnan(scores.findings[0].point.sensitivity)
    assert not math.isnan(scores.findings[0].auroc.value)


def test_json_and_text_say_what_is_not_defined(predict) -> None:
    scores = evaluate.evaluate_run(predict("a", skill=1.5))
    plain = evaluate.as_json(scores)
    assert json.loads(json.dumps(plain, allow_nan=False)) == json.loads(json.dumps(plain))
    assert plain["findings"][2]["auroc"]["value"] is None
    text = evaluate.as_text(scores)
    assert f"{scores.macro.value:.3f}" in text
    assert "nan" not in text
    assert "not for clinical use" in text


def test_the_better_run_wins_whatever_the_order_of_its_studies(predict) -> None:
    good, bad = predict("good", skill=2.0, seed=1), predict("bad", skill=0.7, seed=2)
    found = evaluate.compare_runs(good, bad)
    back = evaluate.compare_runs(bad, good)
    assert found.macro.difference.low > 0
    assert found.macro.p < 0.01
    assert back.macro.difference.value == pytest.approx(-found.macro.difference.value)
    assert [one.finding for one in found.findings] == ["Effusion", "Mass", "Hernia"]
    effusion, mass, hernia = found.findings
    smaller, larger = sorted([effusion.test.p, mass.test.p])
    assert sorted([effusion.holm_p, mass.holm_p]) == pytest.approx(
        [2 * smaller, max(2 * smaller, larger)]
    )
    assert math.isnan(hernia.holm_p)
    alone = evaluate.evaluate_run(good).findings[0].auroc.value
    assert effusion.test.first == pytest.approx(alone)


def test_only_shared_studies_count(predict) -> None:
    full, part = predict("full", skill=1.5), predict("part", skill=1.5, seed=3)
    path = part / "predictions" / "test.npz"
    arrays = dict(np.load(path))
    rows = slice(0, 150)
    np.savez(
        path, **{key: value if key == "findings" else value[rows] for key, value in arrays.items()}
    )
    assert evaluate.compare_runs(full, part).studies == 150


def test_runs_of_other_studies_are_not_compared(predict) -> None:
    one, other = predict("one", skill=1.5), predict("other", skill=1.5)
    path = other / "predictions" / "test.npz"
    arrays = dict(np.load(path))
    np.savez(path, **arrays | {"labels": 1 - arrays["labels"]})
    with pytest.raises(DataError, match="different labels"):
        evaluate.compare_runs(one, other)
    np.savez(path, **arrays | {"ids": np.array([f"x{i}" for i in arrays["ids"]])})
    with pytest.raises(DataError, match="share no study"):
        evaluate.compare_runs(one, other)


def test_bad_predictions_are_said(predict, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no predictions"):
        evaluate.evaluate_run(tmp_path)
    with pytest.raises(DataError, match="no predictions on the split"):
        evaluate.evaluate_run(tmp_path, "train")
    folder = predict("a", skill=1)
    path = folder / "predictions" / "test.npz"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DataError, match="cannot be read"):
        evaluate.evaluate_run(folder)


def test_temperature_comes_from_validation_and_improves_calibration(predict) -> None:
    folder = predict("a", skill=1.5)
    path = folder / "predictions" / "val.npz"
    for split in ("val", "test"):
        path = folder / "predictions" / f"{split}.npz"
        arrays = dict(np.load(path))
        logits = np.log(arrays["scores"] / (1 - arrays["scores"])) * 4  # too sure
        np.savez(path, **arrays | {"scores": (1 / (1 + np.exp(-logits))).astype(np.float32)})
    scores = evaluate.evaluate_run(folder)
    assert scores.temperature > 2
    effusion = scores.findings[0]
    assert effusion.scaled_error < effusion.calibration_error
    assert effusion.scaled_brier < effusion.brier
    assert sum(one.studies for one in effusion.reliability) == effusion.studies
    assert "temperature" in evaluate.as_text(scores)
    (folder / "predictions" / "val.npz").unlink()
    assert math.isnan(evaluate.evaluate_run(folder).temperature)


def test_subgroups_are_said_where_the_run_kept_them(predict) -> None:
    folder = predict("a", skill=1.5)
    assert evaluate.evaluate_run(folder).subgroups == ()
    path = folder / "predictions" / "test.npz"
    arrays = dict(np.load(path))
    sex = np.array(["F", "M"])[np.arange(len(arrays["ids"])) % 2]
    age, view = np.full(len(sex), 50.0, np.float32), np.full(len(sex), "PA")
    np.savez(path, **arrays | {"sex": sex, "age": age, "view": view})
    scores = evaluate.evaluate_run(folder)
    assert [one.by for one in scores.subgroups] == ["sex"]
    assert "Gap" in evaluate.as_text(scores)
    plain = evaluate.as_json(scores)
    assert plain["subgroups"][0]["groups"][0]["name"] == "female"
    assert evaluate.evaluate_run(folder, groups=False).subgroups == ()


def test_a_difference_is_said_in_a_table(predict) -> None:
    found = evaluate.compare_runs(predict("a", skill=2.0), predict("b", skill=1.0, seed=3))
    text = evaluate.difference_text(found)
    assert "not defined: only one class" in text
    assert f"{found.macro.difference.value:+.3f}" in text
    assert "Holm" in text


def test_rules_have_names() -> None:
    assert evaluate.rule_of("specificity") == "specificity"
    with pytest.raises(ConfigurationError, match="youden"):
        evaluate.rule_of("yuoden")


def test_predictive_values_and_net_benefit_at_a_stated_prevalence(predict) -> None:
    folder = predict("a", skill=1.5)
    own, stated = evaluate.evaluate_run(folder), evaluate.evaluate_run(folder, prevalence=0.02)
    effusion, rare = own.findings[0], stated.findings[0]
    assert effusion.prevalence == pytest.approx(effusion.positives / effusion.studies)
    assert (effusion.point, effusion.auroc) == (rare.point, rare.auroc)
    assert rare.ppv.high < effusion.ppv.low
    assert rare.npv.low > effusion.npv.high
    assert f"{rare.ppv.low:.3f} to {rare.ppv.high:.3f}" in evaluate.as_text(stated)
    plain = evaluate.as_json(stated)
    assert plain["prevalence"] == plain["findings"][0]["prevalence"] == 0.02
    assert plain["findings"][0]["net_benefit"][0].keys() == {"threshold", "model", "treat_all"}
    assert plain["findings"][0]["ppv"].keys() == {"value", "low", "high"}
    assert plain["findings"][2]["net_benefit"] == []
    assert "PPV and NPV at a prevalence of 2%." in evaluate.as_text(stated)
    assert "PPV and NPV at the prevalence of the test split." in evaluate.as_text(own)
    for impossible in (0, 1, -0.1, math.nan):
        with pytest.raises(ConfigurationError, match="prevalence"):
            evaluate.evaluate_run(folder, prevalence=impossible)
