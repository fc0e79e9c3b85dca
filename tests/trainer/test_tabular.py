"""Columns become numbers the same way every time; what is unknown is missing."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_api.v1alpha1.recipes.features import Feature
from policy_trainer import tabular
from policy_trainer.errors import ConfigInvalidError, DataInvalidError

pytestmark = pytest.mark.trainer

ROWS = [
    {"id": "a1", "age": "10", "plan": "basic", "tags": ["x", "y"], "ok": True},
    {"id": "a2", "age": 30, "plan": "gold", "tags": ["y"], "ok": False},
    {"id": "a3", "age": " ", "plan": None, "tags": [], "ok": None},
]


def learned(rows=ROWS, features=(), leave_out=("id",), **more):
    return tabular.learn(rows, [Feature(**f) for f in features], leave_out, "classifier", **more)


def test_types_are_told_by_the_values():
    found = {c.name: c.type.value for c in learned().columns}
    assert found == {"age": "Numeric", "plan": "Categorical", "tags": "List", "ok": "Categorical"}


def test_trees_see_codes_and_networks_see_columns():
    encoder = learned()
    assert encoder.code_names() == ["age", "plan", "tags=x", "tags=y", "ok"]
    assert encoder.code_types() == ["float", "c", "float", "float", "c"]
    nan = math.nan
    expected = [[10, 0, 1, 1, 1], [30, 1, 0, 1, 0], [nan, nan, 0, 0, nan]]
    np.testing.assert_array_equal(encoder.codes(ROWS), np.array(expected, dtype=np.float32))
    dense = [[-1, 0, 1, 0, 1, 1, 0, 1], [1, 0, 0, 1, 0, 1, 1, 0], [0, 1, 0, 0, 0, 0, 0, 0]]
    np.testing.assert_array_equal(encoder.dense(ROWS), np.array(dense, dtype=np.float32))
    assert encoder.width == len(dense[0])


def test_declared_columns_are_read_as_declared():
    declared = [{"name": "age", "type": "Categorical"}, {"name": "tags", "type": "List"}]
    assert learned(features=declared).code_names() == ["age", "tags=x", "tags=y"]


cells = st.none() | st.text(max_size=3) | st.integers(-5, 5) | st.booleans() | st.floats()


@given(
    st.lists(st.fixed_dictionaries({"a": cells, "b": st.lists(st.text(max_size=2))}), min_size=1)
)
def test_whatever_rows_have_is_encoded_the_same_by_an_encoder_that_was_kept(rows):
    try:
        encoder = learned(rows, leave_out=())
    except DataInvalidError:
        return  # no number in a numeric column
    again = tabular.Encoder.from_json(encoder.to_json())
    assert again == encoder
    assert np.isfinite(encoder.dense(rows)).all()
    strange = [{"a": "never seen", "b": 7}, {}]
    assert np.isfinite(again.dense(strange)).all()
    assert again.codes(rows + strange).shape == (len(rows) + 2, len(encoder.code_names()))


@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        (
            {"features": [{"name": "agee", "type": "Numeric"}]},
            ConfigInvalidError,
            "the data has no column 'agee'; it has age, id, ok, plan, tags",
        ),
        (
            {"leave_out": (), "most_values": 2},
            DataInvalidError,
            "column 'id' has 3 values in 3 rows, .* list it in classifier.forbidden",
        ),
        (
            {"features": [{"name": "plan", "type": "Numeric"}]},
            DataInvalidError,
            "column 'plan' has no number",
        ),
    ],
)
def test_columns_that_say_nothing_are_refused(more, error, message):
    with pytest.raises(error, match=message):
        learned(**more)
