"""The example's data is balanced, has no review in two files, and is the same every time."""

import json
import re
from collections import Counter

import pytest
from policy_examples import synthesize
from policy_models.answers import AnswerCheck
from policy_models.fields import Violation
from trainer.test_rewards import REVIEW_FORGE, spec, total

FILES = ("train.jsonl", "prompts.jsonl", "validation.jsonl")


def rows(folder, name):
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    synthesize.make("review-forge", folder, 600, 1)
    return folder


def test_the_same_seed_makes_the_same_bytes_and_another_does_not(made, tmp_path):
    for seed, same in ((1, True), (2, False)):
        again = tmp_path / str(seed)
        synthesize.make("review-forge", again, 600, seed)
        for name in FILES:
            assert ((made / name).read_bytes() == (again / name).read_bytes()) is same


@pytest.mark.parametrize("example", sorted(synthesize.EXAMPLES))
def test_every_example_has_data_that_its_seed_decides(example, tmp_path):
    made = []
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        output = tmp_path / folder
        synthesize.make(example, output, 60, seed)
        made.append({file.name: file.read_bytes() for file in output.iterdir()})
    assert made[0] == made[1]
    assert all(made[0][name] != made[2][name] for name in made[0])
    assert all(content.count(b"\n") > 1 for content in made[0].values())


@pytest.mark.parametrize(("name", "count"), [(FILES[0], 600), (FILES[1], 300), (FILES[2], 60)])
def test_qualities_are_balanced(made, name, count):
    counted = Counter(row["quality"] for row in rows(made, name))
    assert counted == dict.fromkeys(("good", "moderate", "poor"), count // 3)


def test_no_review_is_in_two_files(made):
    seen = [{row["prompt"] for row in rows(made, name)} for name in FILES]
    assert not seen[0] & seen[1]
    assert not seen[0] & seen[2]
    assert not seen[1] & seen[2]


def test_every_answer_keeps_the_schema_and_leaves_room_for_a_better_reward(made):
    schema = spec("training/training-sft.yaml").answer_schema
    answers = [row["completion"] for row in rows(made, "train.jsonl")]
    check = AnswerCheck(schema)
    assert not [a for a in answers if isinstance(check.read(a), Violation)]
    assert max(map(len, answers)) <= schema.max_length
    mean = sum(total(REVIEW_FORGE, a) for a in answers) / len(answers)
    assert 0.5 < mean < 0.65


def test_better_reviews_get_higher_scores(made):
    scores = {"good": [], "moderate": [], "poor": []}
    for row in rows(made, "train.jsonl"):
        scores[row["quality"]].append(int(re.match(r"Score: (\d+)", row["completion"])[1]))
    assert max(scores["poor"]) < min(scores["good"])
    means = {quality: sum(found) / len(found) for quality, found in scores.items()}
    assert means["poor"] < means["moderate"] < means["good"]
