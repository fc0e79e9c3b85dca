"""What is answered and how likely it was: every way to an action, counted out exactly."""

import itertools
import math
import random
from collections import Counter
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_api.contract.serving import ServingConfig
from policy_models.decision import Decision, Option
from policy_server.decisions.modes import Chances, Source, of_failure, of_policy


def decision(*options: tuple[str, float | None, float | None]) -> Decision:
    """Return a decision of (action, probability, confidence)."""
    return Decision(
        tuple(Option(name, 0.0, probability, sure) for name, probability, sure in options)
    )


def told(**fields: Any) -> ServingConfig:
    return ServingConfig.model_validate(fields)


GREEDY = decision(("a", 1.0, 0.9), ("b", 0.0, 0.5), ("c", 0.0, 0.2))
DRAWN = decision(("a", 0.5, 0.5), ("b", 0.3, 0.3), ("c", 0.2, 0.2))
UNSURE = decision(("a", 1.0, 0.6), ("b", 0.0, 0.5), ("c", 0.0, None))
ALONE = decision(("a", 1.0, 0.9))
FOUR = decision(("a", 0.4, None), ("b", 0.3, None), ("c", 0.2, None), ("d", 0.1, None))
RANDOM = decision(*((name, 1 / 3, None) for name in "abc"))
ALWAYS_C = decision(("c", 1.0, 0.7))
HYBRID: dict[str, Any] = {
    "mode": "Hybrid",
    "minConfidence": 0.7,
    "baseline": {"strategy": "Random"},
}
LOW = {**HYBRID, "minConfidence": 0.3}
TENTH = {"exploration": {"epsilon": 0.1}}
# Midpoints of equal parts of [0, 1): every number of a case is a whole number of parts.
TENTHS, SIXTHS, TWELFTHS = (tuple((i + 0.5) / n for i in range(n)) for n in (10, 6, 12))

CASES = {
    "greedy": (GREEDY, {}, None, {"a": "1", "b": "0", "c": "0"}),
    "greedy, exploring": (GREEDY, TENTH, None, {"a": "9/10", "b": "1/20", "c": "1/20"}),
    "always exploring": (
        GREEDY,
        {"exploration": {"epsilon": 1}},
        None,
        {"a": "0", "b": "1/2", "c": "1/2"},
    ),
    "one action, exploring": (ALONE, TENTH, None, {"a": "1"}),
    "drawn": (DRAWN, {}, None, {"a": "1/2", "b": "3/10", "c": "1/5"}),
    # Of b: drawn and kept, 27/100, or tried instead of a or c, 7/200.
    "drawn, exploring": (DRAWN, TENTH, None, {"a": "19/40", "b": "61/200", "c": "11/50"}),
    "four, exploring": (
        FOUR,
        TENTH,
        None,
        {"a": "19/50", "b": "22/75", "c": "31/150", "d": "3/25"},
    ),
    "hybrid, sure": (GREEDY, HYBRID, RANDOM, {"a": "1", "b": "0", "c": "0"}),
    "hybrid, sure, exploring": (
        GREEDY,
        {**HYBRID, **TENTH},
        RANDOM,
        {"a": "9/10", "b": "1/20", "c": "1/20"},
    ),
    "hybrid, unsure": (UNSURE, HYBRID, ALWAYS_C, {"a": "0", "b": "0", "c": "1"}),
    "hybrid, unsure, at random": (UNSURE, HYBRID, RANDOM, dict.fromkeys("abc", "1/3")),
    # What the baseline answers is not explored.
    "hybrid, unsure, exploring": (
        UNSURE,
        {**HYBRID, **TENTH},
        ALWAYS_C,
        {"a": "0", "b": "0", "c": "1"},
    ),
    # c is drawn with 0.2 and not sure enough: then one of three.
    "hybrid, drawn": (DRAWN, LOW, RANDOM, {"a": "17/30", "b": "11/30", "c": "1/15"}),
    # Of c: never kept; tried instead of a or b, 1/25; or the baseline takes it, 1/15.
    "hybrid, drawn, exploring": (
        DRAWN,
        {**LOW, **TENTH},
        RANDOM,
        {"a": "319/600", "b": "217/600", "c": "8/75"},
    ),
    "hybrid, the baseline has no answer": (UNSURE, HYBRID, None, {"a": "1", "b": "0", "c": "0"}),
}


@pytest.mark.parametrize("case", CASES)
def test_each_action_is_answered_exactly_as_often_as_its_propensity_says(case):
    found, fields, fallback, wanted = CASES[case]
    config = told(**fields)
    counts: Counter[str] = Counter()
    grid = list(itertools.product(TENTHS, TENTHS, SIXTHS, TWELFTHS))
    for numbers in grid:
        answer = of_policy(found, config, fallback, Chances(*numbers))
        counts[answer.chosen.action] += 1
        assert answer.chosen.probability == pytest.approx(
            float(Fraction(wanted[answer.chosen.action]))
        )
        assert {o.action: o.probability for o in answer.ranking} == pytest.approx(
            {name: float(Fraction(share)) for name, share in wanted.items()}
        )
    shares = {name: Fraction(counts[name], len(grid)) for name in wanted}
    assert shares == {name: Fraction(share) for name, share in wanted.items()}


@pytest.mark.parametrize("case", ["drawn, exploring", "hybrid, drawn, exploring"])
def test_a_log_weighted_by_its_propensities_has_no_bias(case):
    """Inverse propensity scoring of a known reward: what the propensity is there for."""
    found, fields, fallback, _ = CASES[case]
    config, chance = told(**fields), random.Random(7)
    rewards = {"a": 1.0, "b": 5.0, "c": -2.0}
    rows = 200_000
    estimates: dict[str, list[float]] = {name: [] for name in rewards}
    for _ in range(rows):
        chosen = of_policy(found, config, fallback, Chances.draw(chance.random)).chosen
        for name, reward in rewards.items():  # the policy that always takes it
            value = reward / chosen.probability if chosen.action == name else 0.0
            estimates[name].append(value)
    for name, values in estimates.items():
        mean = math.fsum(values) / rows
        deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / rows / rows)
        assert abs(mean - rewards[name]) < 4.5 * deviation, name


shares = st.lists(st.integers(1, 50), min_size=1, max_size=6)
unit = st.floats(0, 1)


@given(shares, shares, st.lists(unit, min_size=6, max_size=6), unit, unit, st.randoms())
def test_propensities_are_those_of_one_choice(parts, others, sure, least, epsilon, chance):
    found = decision(*((str(n), part / sum(parts), sure[n]) for n, part in enumerate(parts)))
    known = others[: len(parts)]
    fallback = decision(*((str(n), part / sum(known), None) for n, part in enumerate(known)))
    config = told(**{**HYBRID, "minConfidence": least, "exploration": {"epsilon": epsilon}})
    answer = of_policy(found, config, fallback, Chances.draw(chance.random))
    assert math.fsum(o.probability for o in answer.ranking) == pytest.approx(1)
    assert 0 < answer.chosen.probability <= 1


@pytest.mark.parametrize(
    ("found", "least", "source", "cause"),
    [
        (GREEDY, 0.9, Source.POLICY, None),
        (GREEDY, 0.901, Source.BASELINE, "confidence"),
        (decision(("a", 1.0, None)), 0.0, Source.BASELINE, "confidence"),
    ],
)
def test_the_policy_decides_from_min_confidence_on(found, least, source, cause):
    config = told(**{**HYBRID, "minConfidence": least})
    answer = of_policy(found, config, ALWAYS_C, Chances(0.5, 0.5, 0.5, 0.5))
    assert (answer.source, answer.cause) == (source, cause)


def test_min_confidence_is_hybrids_alone():
    config = told(**{**HYBRID, "mode": "Primary", "minConfidence": 1})
    assert of_policy(UNSURE, config, ALWAYS_C, Chances(0, 0, 0, 0)).source is Source.POLICY


def test_an_advisor_answers_with_a_ranking_whatever_chance_says():
    fields = {"mode": "Advisor", "autoApprove": {"minConfidence": 0}, **TENTH}
    for numbers in itertools.product(TENTHS, repeat=2):
        answer = of_policy(DRAWN, told(**fields), None, Chances(*numbers, 0.5, 0.5))
        assert [option.action for option in answer.ranking] == ["a", "b", "c"]
        assert answer.chosen.action == "a"
        assert {option.probability for option in answer.ranking} == {None}, "a person chooses"
        assert answer.auto_approved is False
    instead = of_failure("engine", told(**fields), RANDOM, Chances(0.99, 0, 0, 0.99))
    assert (instead.source, instead.cause) == (Source.BASELINE, "engine")
    assert (instead.auto_approved, instead.chosen.probability) == (False, None)


def test_when_the_policy_fails_the_propensity_is_the_baselines():
    counts = Counter(
        of_failure("timeout", told(), RANDOM, Chances(0, 0, 0, chance)).chosen.action
        for chance in SIXTHS
    )
    assert counts == {"a": 2, "b": 2, "c": 2}
    answer = of_failure("timeout", told(), RANDOM, Chances(0, 0, 0, 0.5))
    assert answer.chosen.probability == pytest.approx(1 / 3)
    assert (answer.source, answer.cause) == (Source.BASELINE, "timeout")


def test_of_a_sampled_answer_nobody_knows_the_probability():
    sampled = decision(("some text", None, 0.4))
    answer = of_policy(sampled, told(), None, Chances(0, 0, 0, 0))
    assert (answer.chosen.action, answer.chosen.probability) == ("some text", None)
    fixed = decision(("Ask a person.", 1.0, None))
    answer = of_policy(sampled, told(**HYBRID), fixed, Chances(0, 0, 0, 0))
    assert (answer.chosen.action, answer.chosen.probability) == ("Ask a person.", None)
    greedy = decision(("some text", 1.0, 0.4))
    answer = of_policy(greedy, told(**HYBRID), fixed, Chances(0, 0, 0, 0))
    assert (answer.chosen.action, answer.chosen.probability) == ("Ask a person.", 1.0)
    assert answer.ranking == (answer.chosen,)


@pytest.mark.parametrize(
    ("fields", "approved"),
    [
        ({}, None),
        ({"autoApprove": {"minConfidence": 0.9}}, True),
        ({"autoApprove": {"minConfidence": 0.91}}, False),
        ({"autoApprove": {"minConfidence": 0.9, "actions": ["b", "a"]}}, True),
        ({"autoApprove": {"minConfidence": 0.9, "actions": ["b"]}}, False),
        ({"autoApprove": {"minConfidence": 0.9}, "mode": "Advisor"}, False),
        ({"mode": "Advisor"}, False),
    ],
)
def test_which_decisions_need_no_person(fields, approved):
    answer = of_policy(GREEDY, told(**fields), None, Chances(0, 0.5, 0, 0))
    assert answer.auto_approved is approved


def test_what_chance_tried_is_judged_by_its_own_confidence():
    fields = {"autoApprove": {"minConfidence": 0.5}, "exploration": {"epsilon": 1}}
    for other, action, approved in ((0.0, "b", True), (0.9, "c", False)):
        answer = of_policy(GREEDY, told(**fields), None, Chances(0, 0, other, 0))
        assert (answer.chosen.action, answer.auto_approved) == (action, approved)
        assert answer.explored


def test_the_baseline_approves_nothing():
    sure = decision(("a", 1.0, 1.0))
    fields = {**HYBRID, "autoApprove": {"minConfidence": 0}}
    answer = of_policy(UNSURE, told(**fields), sure, Chances(0, 0, 0, 0))
    assert (answer.source, answer.auto_approved) == (Source.BASELINE, False)
    assert of_failure("engine", told(**fields), sure, Chances(0, 0, 0, 0)).auto_approved is False
