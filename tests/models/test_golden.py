"""Each kind of tables answers as it did when its golden file was made, alone or beside others."""

import json
import math
import shutil
from itertools import pairwise

import numpy as np
import pytest
from policy_models.decision import Decision, Refusal, Request
from policy_models.layers import Activation, Layers
from policy_models.offers import OfferPolicy
from policy_models.q_policy import FILE, QPolicy, margins

from models import golden


def _same(found, wanted):
    """Compare JSON; numbers to the digits that differ between processors."""
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
        for key, value in wanted.items():
            _same(found[key], value)
    elif isinstance(wanted, list):
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            _same(one, other)
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, rel=1e-5, abs=1e-6)
    elif isinstance(wanted, str) and "+" in wanted + "-":
        assert found.split(":")[0] == wanted.split(":")[0]
    else:
        assert found == wanted


@pytest.mark.parametrize("kind", golden.KINDS)
def test_it_answers_as_it_did(kind):
    policy = golden.opened(kind)
    for pair in golden.kept(kind):
        (outcome,) = policy.decide([golden.asked(pair["request"])])
        _same(golden.shown(outcome), pair["answer"])


@pytest.mark.parametrize("kind", golden.KINDS)
def test_an_answer_is_the_same_bits_whatever_is_asked_beside_it(kind):
    policy = golden.opened(kind)
    requests = [golden.asked(pair["request"]) for pair in golden.kept(kind)]
    alone = [policy.decide([request])[0] for request in requests]
    assert policy.decide(requests * 3) == alone * 3


@pytest.mark.parametrize("kind", golden.KINDS)
def test_it_answers_its_own_example(kind):
    policy = golden.opened(kind)
    (outcome,) = policy.decide([policy.example()])
    assert isinstance(outcome, Decision)
    assert set(policy.inputs()) & {"state", "candidates"}


@pytest.mark.parametrize("kind", golden.KINDS)
def test_probabilities_are_those_of_one_choice(kind):
    policy = golden.opened(kind)
    for outcome in policy.decide([golden.asked(pair["request"]) for pair in golden.kept(kind)]):
        if isinstance(outcome, Decision):
            assert math.fsum(o.probability for o in outcome.ranking) == pytest.approx(1)


@pytest.mark.parametrize("kind", ["Classifier", "QNetwork"])
def test_rows_of_any_number_are_the_same_bits(kind):
    policy = golden.opened(kind)
    states = [pair["request"]["state"] for pair in golden.kept(kind)][:2]
    rows = states * 40
    many = policy.probabilities(rows) if kind == "Classifier" else _values(policy, rows)
    for place, row in enumerate(rows):
        one = policy.probabilities([row]) if kind == "Classifier" else _values(policy, [row])
        assert (one[0] == many[place]).all()


def _values(policy, rows):
    return policy.values(policy.encoder.dense(rows))


def test_wide_layers_are_the_same_bits_in_any_batch():
    chance = np.random.default_rng(1)
    widths = [37, 256, 256, 9]
    layers = Layers(
        tuple(
            (
                chance.normal(size=(out, into)).astype(np.float32),
                chance.normal(size=out).astype(np.float32),
            )
            for into, out in pairwise(widths)
        ),
        Activation.RELU,
    )
    rows = chance.normal(size=(97, 37)).astype(np.float32)
    whole = layers.apply(rows)
    for count in (1, 2, 3, 8, 33):
        parts = [layers.apply(rows[start : start + count]) for start in range(0, 97, count)]
        assert (np.concatenate(parts) == whole).all(), count


def test_a_margin_is_how_far_a_q_is_above_the_best_of_the_others():
    values = np.array([[1.0, 4.0, 3.0], [2.0, 2.0, -1.0]], dtype=np.float32)
    assert margins(values).tolist() == [[-3, 1, -1], [0, 0, -3]]


def test_effects_explain_the_score_that_is_served():
    policy = golden.opened("Classifier")
    state = golden.kept("Classifier")[0]["request"]["state"]
    effects = policy.scorer.contributions(state)
    odds = policy.scorer.score([state])[0]
    everywhere = policy.scorer._booster.predict(
        _matrix(policy, state), pred_contribs=True, strict_shape=False
    )
    assert sum(effects) + everywhere[0, -1] == pytest.approx(math.log(odds / (1 - odds)), abs=1e-4)


def _matrix(policy, state):
    from policy_models.classifier import matrix  # noqa: PLC0415 - xgboost, seconds

    return matrix(policy.encoder, [state])


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (None, "this policy is asked with state, an object of features: send that instead"),
        (
            {"task": ["a"], "languages": [], "success_rate": 1},
            "state.task must be a string, a number or a boolean, or null",
        ),
        (
            {"task": "a", "languages": [{}], "success_rate": 1},
            "state.languages must be a list of strings or numbers, or null",
        ),
        (
            {"task": "a", "languages": [], "success_rate": True},
            "state.success_rate must be a number or null",
        ),
        (
            {"task": "a", "languages": [], "success_rate": math.nan},
            "state.success_rate must be a finite number below 1e30, or null",
        ),
        (
            {"task": "a", "languages": [], "success_rate": 10**400},
            "state.success_rate must be a finite number below 1e30, or null",
        ),
        (
            {"zzz": 1},
            "state.zzz is not a feature of this policy: it has task, languages, success_rate",
        ),
    ],
)
def test_a_state_that_does_not_fit_is_told_by_name(state, message):
    (refused,) = golden.opened("QNetwork").decide([Request(state=state)])
    assert refused == Refusal("InvalidRequest", message)


def test_an_unknown_candidate_names_the_nearest():
    state = golden.kept("QNetwork")[0]["request"]["state"]
    (refused,) = golden.opened("QNetwork").decide([Request(state=state, candidates=("backed",))])
    assert refused.message == "the policy has no action 'backed', did you mean 'backend'?"


def test_a_tired_customer_gets_no_contact_and_can_not_be_asked_for_one():
    tired = {"age": 20, "plan": "basic", "fee": 80, "history": {"contacts": 99}}
    policy = golden.opened("OfferPolicy")
    (left,) = policy.decide([Request(state=tired)])
    assert [option.action for option in left.ranking] == ["no contact"]
    (refused,) = policy.decide([Request(state=tired, candidates=("offer 0.1",))])
    assert refused.message.startswith("the customer had 99 contacts, at most ")


def test_an_offer_policy_of_an_older_trainer_says_what_is_missing(tmp_path):
    (tmp_path / "offer_policy.json").write_text("{}")
    with pytest.raises(ValueError, match="it was written by a trainer that kept too little"):
        OfferPolicy.read(tmp_path)


def test_a_q_policy_of_an_older_trainer_serves_without_confidence(tmp_path):
    shutil.copytree(golden.FOLDER / "QNetwork", tmp_path / "old")
    kept = json.loads((tmp_path / "old" / FILE).read_text())
    del kept["confidence"], kept["action_history"]
    (tmp_path / "old" / FILE).write_text(json.dumps(kept))
    request = golden.asked(golden.kept("QNetwork")[0]["request"])
    (found,) = QPolicy.read(tmp_path / "old").decide([request])
    (now,) = golden.opened("QNetwork").decide([request])
    assert [o.action for o in found.ranking] == [o.action for o in now.ranking]
    assert found.ranking[0].confidence is None
