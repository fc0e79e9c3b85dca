"""Which option is taken: drawn by the policy's own probabilities."""

import pytest
from policy_models.decision import Option
from policy_server.decisions.modes import draw

RANKING = (Option("a", 3, 0.5), Option("b", 2, 0.3), Option("c", 1, 0.2))


@pytest.mark.parametrize(
    ("chance", "action"),
    [(0, "a"), (0.499, "a"), (0.5, "b"), (0.799, "b"), (0.8, "c"), (1 - 1e-16, "c")],
)
def test_each_option_is_taken_with_its_probability(chance, action):
    assert draw(RANKING, chance).action == action


def test_a_greedy_policy_takes_its_best():
    assert draw((Option("a", 1, 1.0), Option("b", 2, 0.0)), 0.999999).action == "a"


def test_without_probabilities_the_best_is_taken():
    assert draw((Option("a", 1, None), Option("b", 2, None)), 0.9).action == "a"


def test_a_sum_that_rounding_left_short_takes_the_best():
    assert draw((Option("a", 1, 0.5), Option("b", 1, 0.4999)), 0.99999).action == "a"
