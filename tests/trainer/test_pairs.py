"""Preference pairs come ready, or are made of answers that people called good or bad."""

import json
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_trainer import checks, pairs
from policy_trainer.errors import DataInvalidError
from trainer.worlds import config


def labelled(prompt, completion, label):
    return {"prompt": prompt, "completion": completion, "label": label}


def load(tmp_path, rows, **changes):
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "train.jsonl").write_text(lines)
    data = [{"name": "train", "uri": "pvc://a/train", "path": str(tmp_path / "train.jsonl")}]
    return pairs.load(config(tmp_path, "pairs", data=data, **changes))["train"]


def test_each_bad_answer_is_paired_with_a_good_one_to_the_same_prompt(tmp_path):
    rows = [
        labelled("a", "a good", "good"),
        labelled("a", "a bad", "bad"),
        labelled("a", "a worse", "bad"),
        labelled("b", "b bad", "bad"),
        labelled("c", "c good", "good"),
        {"prompt": "d", "chosen": "yes", "rejected": "no"},
    ]
    made = load(tmp_path, rows)
    assert made.rows == [
        {"prompt": "d", "chosen": "yes", "rejected": "no"},
        {"prompt": "a", "chosen": "a good", "rejected": "a bad"},
        {"prompt": "a", "chosen": "a good", "rejected": "a worse"},
    ]
    assert made.used.rows == 3


@given(
    st.lists(
        st.builds(
            labelled, st.sampled_from("ab"), st.text(max_size=2), st.sampled_from(checks.LABELS)
        )
    ),
    st.integers(0, 5),
)
def test_a_pair_is_of_one_prompt_and_the_same_seed_makes_the_same_pairs(rows, seed):
    made = pairs.pair(rows, seed)
    assert made == pairs.pair(rows, seed)
    for row in made:
        assert labelled(row["prompt"], row["chosen"], "good") in rows
        assert labelled(row["prompt"], row["rejected"], "bad") in rows


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "p", "chosen": "c"}, "train:1: field 'rejected' is missing"),
        (labelled("p", "c", "fine"), "field 'label' is 'fine', wanted good or bad"),
        (labelled("p", 3, "good"), "field 'completion' is 3, wanted a text"),
        (labelled("p", "c", "good"), "none of 1 prompts has a good and a bad answer"),
    ],
)
def test_bad_rows_are_refused(tmp_path, row, message):
    with pytest.raises(DataInvalidError, match=message):
        load(tmp_path, [row])


class Words:
    """A tokenizer of words, without a chat template."""

    chat_template = None
    eos_token = " end"

    def __call__(self, text, **_options):
        return {"input_ids": text.split()}


def test_a_pair_that_is_too_long_is_named():
    rows = [types.MappingProxyType({"prompt": "a b ", "chosen": "c", "rejected": "c d e"})]
    pairs.check_length(Words(), rows, 6, "train")
    with pytest.raises(DataInvalidError, match=r"have 6 tokens, maxLength is 5: raise") as refused:
        pairs.check_length(Words(), rows, 5, "train")
    assert refused.value.field == "data[train] pair 1 field rejected"
