from dataclasses import replace

import numpy as np
import pytest

from core.errors import ConfigurationError, DataError
from core.saliency.request import explain_study_of
from core.saliency.scores.score_maps import ScoringOptions, score_maps

OPTIONS = ScoringOptions(findings=("Effusion", "Infiltration"), most=4)


@pytest.fixture
def two(untrained):
    return {"first": untrained(0), "second": untrained(1)}


def test_a_row_equals_the_scores_of_the_study_alone(two, phantoms):
    found = score_maps(two, phantoms, OPTIONS)
    rows = found.rows
    assert len(rows) == 2 * 2 * 2 * 4
    assert not found.notes
    assert set(rows["split"]) == {"test"}
    for row in rows[rows["method"] == "grad-cam"].iloc[::5].itertuples():
        alone = explain_study_of(two[row.run], phantoms, row.study, row.finding)
        assert alone.label == 1
        assert row.energy == pytest.approx(alone.scores.energy, rel=1e-4)
        assert row.iou == pytest.approx(alone.scores.iou, abs=0.01)
        assert row.area == pytest.approx(alone.scores.area)
        assert row.probability == pytest.approx(alone.explanation.probability, abs=1e-5)
        assert row.patient == phantoms.study(row.study).patient
    base = rows[rows["method"] == "centre-gaussian"].set_index(["finding", "study", "run"])
    energy = base["energy"].unstack("run")
    np.testing.assert_allclose(energy["first"], energy["second"])
    assert base["on border"].between(0.01, 0.2).all()


def test_studies_are_drawn_by_the_seed_and_training_patients_left_out(two, phantoms):
    one = {"first": two["first"]}
    found = score_maps(one, phantoms, OPTIONS)
    again = score_maps(one, phantoms, OPTIONS)
    assert found.rows.equals(again.rows)
    other = score_maps(one, phantoms, replace(OPTIONS, seed=5))
    assert set(other.rows["study"]) != set(found.rows["study"])
    everything = replace(OPTIONS, most=None)
    plain = score_maps(one, phantoms, everything)
    learnt = frozenset(plain.rows["patient"][:3])
    rest = score_maps(one, phantoms, everything, learnt)
    assert not learnt & set(rest.rows["patient"])
    lost = plain.rows[plain.rows["patient"].isin(learnt) & (plain.rows["method"] == "grad-cam")]
    assert sum(rest.left_out.values()) == len(lost) > 0
    kept = score_maps(one, phantoms, replace(everything, with_seen=True), learnt)
    assert len(kept.rows) == len(plain.rows)
    with pytest.raises(DataError, match="No study of the test split"):
        score_maps(one, phantoms, everything, frozenset(phantoms.table["patient"]))


def test_the_counterfactual_correlates_with_itself_and_locates_the_finding(two, phantoms):
    options = ScoringOptions(
        findings=("Effusion",), methods=("counterfactual", "grad-cam", "centre-gaussian"),
        most=3, counterfactual=True,
    )  # fmt: skip
    rows = score_maps({"first": two["first"]}, phantoms, options).rows
    own = rows[rows["method"] == "counterfactual"]
    assert own["counterfactual"].dropna().to_numpy() == pytest.approx(1)
    assert (own["energy"] > own["area"]).all()
    others = rows[rows["method"] != "counterfactual"]
    assert others["counterfactual"].between(-1, 1).all()
    assert others["counterfactual_rank"].between(-1, 1).all()


def test_maps_of_equal_weights_agree_more_than_those_of_other_weights(two, phantoms, untrained):
    runs = {**two, "twin": untrained(0)}
    found = score_maps(runs, phantoms, replace(OPTIONS, findings=("Effusion",), most=2)).agreement
    by_pair = found.set_index(["run", "method", "other_run", "other_method"])["correlation"]
    assert by_pair["first", "grad-cam", "twin", "grad-cam"] == pytest.approx(1)
    assert by_pair["first", "centre-gaussian", "second", "centre-gaussian"] == pytest.approx(1)
    assert by_pair["first", "grad-cam", "second", "grad-cam"] < 0.99
    assert ("first", "grad-cam", "second", "centre-gaussian") not in by_pair.index


def test_a_method_that_a_network_does_not_support_becomes_a_note(phantoms, untrained):
    runs = {"cnn": untrained(0, "resnet10t")}
    found = score_maps(runs, phantoms, replace(OPTIONS, methods=("attention-rollout", "grad-cam")))
    assert set(found.rows["method"]) == {"grad-cam"}
    assert len(found.notes) == 1
    assert "no attention over patch tokens" in found.notes[0]


def test_invalid_options_are_reported(two, phantoms):
    with pytest.raises(DataError, match="no finding “Broken rib”"):
        score_maps(two, phantoms, ScoringOptions(findings=("Broken rib",)))
    with pytest.raises(ConfigurationError, match="Did you mean grad-cam"):
        score_maps(two, phantoms, ScoringOptions(findings=("Mass",), methods=("gradcam",)))
    with pytest.raises(DataError, match="no split “tset”"):
        score_maps(two, phantoms, ScoringOptions(findings=("Mass",), split=("tset",)))
    with pytest.raises(ConfigurationError, match="nothing to explain"):
        score_maps({}, phantoms, ScoringOptions(findings=("Mass",)))
    fewer = replace(two["first"], findings=("Edema",))
    with pytest.raises(DataError, match="has no finding “Mass”"):
        score_maps({"first": fewer}, phantoms, ScoringOptions(findings=("Mass",)))
    both = {"first": fewer, "second": two["second"]}
    found = score_maps(both, phantoms, ScoringOptions(findings=("Infiltration",), most=1))
    assert found.notes == ("first has no finding Infiltration.",)
