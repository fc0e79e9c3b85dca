from hypothesis import given
from hypothesis import strategies as st
from policy_models.text.drafts import Drafts

tokens = st.lists(st.integers(0, 9), min_size=3, max_size=60)


@given(context=tokens, answer=tokens, length=st.integers(1, 20))
def test_the_end_of_a_learned_answer_is_guessed_as_it_was(context, answer, length):
    drafts = Drafts(length)
    drafts.learn(context, answer)
    whole = context[-3:] + answer
    last = len(whole) - 1  # the last three tokens before it were written last of all
    assert drafts.guess(whole[:last], length)[:1] == (whole[last],)


@given(answer=tokens, length=st.integers(1, 20), limit=st.integers(-1, 20))
def test_a_guess_keeps_both_limits(answer, length, limit):
    drafts = Drafts(length)
    drafts.learn([1, 2, 3], answer)
    assert len(drafts.guess([1, 2, 3], limit)) <= max(0, min(length, limit))


def test_the_longer_run_wins():
    drafts = Drafts(4)
    drafts.learn([], [1, 2, 3, 7])
    drafts.learn([], [9, 2, 3, 8])
    assert drafts.guess([1, 2, 3], 4) == (7,)
    assert drafts.guess([5, 2, 3], 4) == (8,)


def test_nothing_is_guessed_when_turned_off():
    drafts = Drafts(0)
    drafts.learn([1, 2, 3], [4, 5, 6])
    assert drafts.guess([1, 2, 3], 9) == ()


def test_memory_is_bounded_and_forgets_the_oldest_first():
    drafts = Drafts(2, capacity=10)
    drafts.learn([], range(100, 110))
    drafts.learn([], range(200, 210))
    assert drafts.guess([100, 101, 102], 2) == ()
    assert drafts.guess([206, 207, 208], 2) == (209,)
    assert len(drafts._after) == 10
