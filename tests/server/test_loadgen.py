import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_examples.loadgen import prompts_from, quantile


@pytest.mark.parametrize(
    ("values", "share", "wanted"),
    [
        ([], 0.5, None),
        ([7.0], 0.5, 7.0),
        ([7.0], 0.95, 7.0),
        ([1.0, 2.0], 0.5, 1.0),
        ([3.0, 1.0, 2.0], 0.5, 2.0),
        (list(range(1, 101)), 0.5, 50),
        (list(range(1, 101)), 0.95, 95),
        (list(range(1, 21)), 0.95, 19),
        (list(range(1, 22)), 0.95, 20),
    ],
)
def test_quantile_by_nearest_rank(values, share, wanted):
    assert quantile(values, share) == wanted


@given(st.lists(st.floats(0, 1e6), min_size=1), st.sampled_from([0.5, 0.95]))
def test_at_least_the_share_is_at_or_below_the_quantile(values, share):
    found = quantile(values, share)
    assert sum(value <= found for value in values) >= share * len(values)
    assert sum(value < found for value in values) < share * len(values)


def test_the_built_in_prompts_are_distinct():
    prompts = prompts_from(None)
    assert all(prompt.startswith("Score this review: '") for prompt in prompts)
    assert all(a != b for a, b in itertools.combinations(prompts, 2))
