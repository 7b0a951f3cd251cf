import json

import pytest

from core.saliency.scores import label_free


def test_scores_are_numbers_and_the_sanity_check_a_sentence(untrained, phantoms):
    images = [phantoms.read(one) for one in phantoms.ids("test")[:3]]
    found = label_free.score("run", untrained(), images, "Mass", "hirescam")
    assert found.studies == 3
    assert 0 < found.insertion < 1
    assert 0 < found.deletion < 1
    assert -0.5 <= found.road <= 0.5
    assert found.noise > 0.9
    assert found.shift < found.noise
    assert "sanity check" in found.sentence
    assert len(found.sanity.steps) == label_free.SANITY_STEPS
    plain = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert plain["sanity_failed"] == found.sanity.failed


def test_a_baseline_has_no_sanity_check_and_failures_are_reported(untrained, phantoms):
    images = {"Mass": [phantoms.read(one) for one in phantoms.ids("test")[:1]], "Nodule": []}
    methods = ("centre-gaussian", "counterfactual", "attention-rollout")
    found, notes = label_free.score_all({"cnn": untrained(0, "resnet10t")}, images, methods)
    assert [scores.method for scores in found] == ["centre-gaussian"]
    assert found[0].sanity is None
    assert "baseline" in found[0].sentence
    assert found[0].noise == pytest.approx(1)
    assert len(notes) == 1
    assert "no attention" in notes[0]
