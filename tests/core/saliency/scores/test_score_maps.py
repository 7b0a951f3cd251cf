from dataclasses import replace

import numpy as np
import pytest

from core.errors import ConfigurationError, DataError
from core.saliency.request import explain_study_of
from core.saliency.scores.score_maps import Question, judge

ASKED = Question(findings=("Effusion", "Infiltration"), most=4)


@pytest.fixture
def two(untrained):
    return {"first": untrained(0), "second": untrained(1)}


def test_a_row_is_what_the_study_alone_gives(two, phantoms):
    found = judge(two, phantoms, ASKED)
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


def test_studies_are_drawn_by_the_seed_and_learnt_ones_left_out(two, phantoms):
    one = {"first": two["first"]}
    found = judge(one, phantoms, ASKED)
    again = judge(one, phantoms, ASKED)
    assert found.rows.equals(again.rows)
    other = judge(one, phantoms, replace(ASKED, seed=5))
    assert set(other.rows["study"]) != set(found.rows["study"])
    everything = replace(ASKED, most=None)
    plain = judge(one, phantoms, everything)
    learnt = frozenset(plain.rows["patient"][:3])
    rest = judge(one, phantoms, everything, learnt)
    assert not learnt & set(rest.rows["patient"])
    lost = plain.rows[plain.rows["patient"].isin(learnt) & (plain.rows["method"] == "grad-cam")]
    assert sum(rest.left_out.values()) == len(lost) > 0
    kept = judge(one, phantoms, replace(everything, with_seen=True), learnt)
    assert len(kept.rows) == len(plain.rows)
    with pytest.raises(DataError, match="Nothing is marked"):
        judge(one, phantoms, everything, frozenset(phantoms.table["patient"]))


def test_the_counterfactual_correlates_with_itself_and_says_where_the_finding_is(two, phantoms):
    asked = Question(
        findings=("Effusion",), methods=("counterfactual", "grad-cam", "centre-gaussian"),
        most=3, counterfactual=True,
    )  # fmt: skip
    rows = judge({"first": two["first"]}, phantoms, asked).rows
    own = rows[rows["method"] == "counterfactual"]
    assert own["counterfactual"].dropna().to_numpy() == pytest.approx(1)
    assert (own["energy"] > own["area"]).all()
    others = rows[rows["method"] != "counterfactual"]
    assert others["counterfactual"].between(-1, 1).all()
    assert others["counterfactual_rank"].between(-1, 1).all()


def test_maps_of_the_same_weights_agree_and_of_others_less(two, phantoms, untrained):
    runs = {**two, "twin": untrained(0)}
    found = judge(runs, phantoms, replace(ASKED, findings=("Effusion",), most=2)).agreement
    by_pair = found.set_index(["run", "method", "other_run", "other_method"])["correlation"]
    assert by_pair["first", "grad-cam", "twin", "grad-cam"] == pytest.approx(1)
    assert by_pair["first", "centre-gaussian", "second", "centre-gaussian"] == pytest.approx(1)
    assert by_pair["first", "grad-cam", "second", "grad-cam"] < 0.99
    assert ("first", "grad-cam", "second", "centre-gaussian") not in by_pair.index


def test_what_a_network_cannot_do_becomes_a_sentence(phantoms, untrained):
    runs = {"cnn": untrained(0, "resnet10t")}
    found = judge(runs, phantoms, replace(ASKED, methods=("attention-rollout", "grad-cam")))
    assert set(found.rows["method"]) == {"grad-cam"}
    assert len(found.notes) == 1
    assert "no attention over patch tokens" in found.notes[0]


def test_faults_are_said_in_words(two, phantoms):
    with pytest.raises(DataError, match="no finding “Broken rib”"):
        judge(two, phantoms, Question(findings=("Broken rib",)))
    with pytest.raises(ConfigurationError, match="Did you mean grad-cam"):
        judge(two, phantoms, Question(findings=("Mass",), methods=("gradcam",)))
    with pytest.raises(DataError, match="no split “tset”"):
        judge(two, phantoms, Question(findings=("Mass",), split=("tset",)))
    with pytest.raises(ConfigurationError, match="Nothing to explain"):
        judge({}, phantoms, Question(findings=("Mass",)))
    fewer = replace(two["first"], findings=("Edema",))
    with pytest.raises(DataError, match="has no finding “Mass”"):
        judge({"first": fewer}, phantoms, Question(findings=("Mass",)))
    both = {"first": fewer, "second": two["second"]}
    found = judge(both, phantoms, Question(findings=("Infiltration",), most=1))
    assert found.notes == ("first does not know the finding Infiltration.",)
