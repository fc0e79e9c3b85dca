"""PPO: its arithmetic against plain formulas, and whole runs that learn, stop and go on exactly."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from policy_api.contract.artifact import PolicyManifest
from policy_api.contract.report import Outcome
from policy_api.v1alpha1.recipes.ppo import AdaptiveKL
from policy_trainer import ppo, process, run
from policy_trainer.stop import StopRequest
from trainer.worlds import StopAt, config, sha256
from trainer.worlds import ppo as ppo_run

pytestmark = [
    pytest.mark.trainer,
    pytest.mark.filterwarnings("ignore"),  # the libraries' own
    pytest.mark.timeout(300),
]

numbers = st.floats(-3, 3, width=32)


@given(
    st.lists(st.tuples(numbers, numbers), min_size=1, max_size=6),
    st.integers(0, 3),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_advantages_are_the_sum_of_discounted_errors(row, padding, gamma, lambda_):
    rewards, values = (list(column) for column in zip(*row, strict=True))
    length = len(row)
    mask = torch.tensor([[1.0] * length + [0.0] * padding])
    padded = [torch.tensor([list(c) + [9.0] * padding]) for c in (rewards, values)]
    found = ppo.advantages(*padded, mask, gamma, lambda_)[0]
    following = [*values[1:], 0.0]
    errors = [r + gamma * n - v for r, v, n in zip(rewards, values, following, strict=True)]
    for token in range(length):
        wanted = sum(
            (gamma * lambda_) ** (later - token) * errors[later] for later in range(token, length)
        )
        assert found[token].item() == pytest.approx(wanted, abs=1e-4)
    assert not found[length:].any()


def test_the_score_comes_at_the_end_and_the_penalty_at_each_token():
    mask = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    apart = torch.tensor([[1.0, 2.0, 7.0], [0.0, -1.0, 3.0]])
    found = ppo.token_rewards(torch.tensor([10.0, 20.0]), apart, mask, 0.5)
    torch.testing.assert_close(found, torch.tensor([[-0.5, 9.0, 0.0], [0.0, 0.5, 18.5]]))


def before(**changes):
    ones = torch.ones(1, 2)
    made = dict.fromkeys(("logs", "values", "gains", "returns"), ones * 0)
    return ppo.Before(**{"mask": ones, **made, **changes})


def test_a_ratio_out_of_bounds_is_clipped_when_that_is_worse():
    gains = torch.tensor([[1.0, -1.0]])
    logs = torch.tensor([[1.0, -1.0]])  # both have gone further than 0.2 the way they should
    policy, _, clipped = ppo.losses(logs, torch.zeros(1, 2), before(gains=gains), 0.2)
    assert policy.item() == pytest.approx(-(1.2 - 0.8) / 2)
    assert clipped.item() == 1
    policy, _, _ = ppo.losses(-logs, torch.zeros(1, 2), before(gains=gains), 0.2)
    assert policy.item() == pytest.approx(-(torch.e**-1 - torch.e**1) / 2, rel=1e-4)  # not clipped


def test_a_value_that_moves_far_is_judged_at_its_clipped_place():
    values = torch.tensor([[1.0, 1.0]])
    _, loss, _ = ppo.losses(torch.zeros(1, 2), values, before(returns=values), 0.2)
    assert loss.item() == pytest.approx(0.5 * 0.8**2)


@given(st.floats(0.1, 10), st.floats(-1, 5))
def test_the_penalty_follows_its_target_in_small_steps_from_its_first_coefficient(
    coefficient, divergence
):
    kl = AdaptiveKL(initial=0.1, target=0.15, rate=0.5)
    found = ppo.next_coefficient(coefficient, divergence, kl)
    assert abs(found / coefficient - 1) <= 0.1 + 1e-9
    assert (found > coefficient) == (divergence > 0.15) or found == pytest.approx(coefficient)
    assert found >= 0.1


@pytest.mark.parametrize(("pull", "held"), [(0.5, 0.15), (0.05, 0.05)])
def test_the_default_penalty_holds_its_target_within_forty_iterations(pull, held):
    """Where the reward pulls further, by `pull` at first; else the first coefficient stays."""
    kl = AdaptiveKL()
    coefficient, divergence, found = kl.initial, 0.0, []
    for _ in range(40):
        divergence += 0.3 * (pull * kl.initial / coefficient - divergence)  # it follows with a lag
        coefficient = ppo.next_coefficient(coefficient, divergence, kl)
        found.append(divergence)
    assert found[-10:] == pytest.approx([held] * 10, rel=0.2)


@given(st.lists(st.floats(-100, 100, width=32), min_size=4, max_size=20), st.integers(1, 3))
def test_scores_have_mean_0_and_deviation_1_over_all_that_were_seen(scores, parts):
    scale = ppo.Scale()
    for part in range(parts):
        mine = torch.tensor(scores[part::parts], dtype=torch.float64)
        scale = scale.seen(len(mine), mine.sum().item(), (mine**2).sum().item())
    whole = torch.tensor(scores, dtype=torch.float64)
    found = scale.applied(whole)
    assert found.mean().item() == pytest.approx(0, abs=1e-3)
    if whole.std() > 0.01:
        assert found.std(correction=0).item() == pytest.approx(1, abs=1e-3)


def test_the_divergence_is_that_of_whole_distributions():
    chance = torch.Generator().manual_seed(1)
    mine, theirs = (torch.randn(2, 3, 5, generator=chance) for _ in range(2))
    found = ppo.divergences(mine, theirs)
    kinds = [torch.distributions.Categorical(logits=logits) for logits in (mine, theirs)]
    torch.testing.assert_close(found, torch.distributions.kl_divergence(*kinds))


def test_how_far_a_policy_has_moved_is_nothing_at_first_and_never_less():
    logs = torch.tensor([[-1.0, -2.0]])
    known = before(logs=logs)
    assert ppo.moved(logs, known) == 0
    for step in (0.3, -0.3):
        assert ppo.moved(logs + step, known) == pytest.approx(0.3**2 / 2, rel=0.2)


def wanted(root, uid, base, block=None, **changes):
    return config(root, uid, **{**ppo_run(base, **(block or {})), **changes})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("start")


@pytest.fixture
def start(folder, attempt):
    """A folder with what a short SFT made; trained once."""
    sft = {"maxSteps": 60, "learningRate": 0.01, "batchSize": 8, "maxLength": 64}
    assert attempt(config(folder, "sft", sft=sft)).outcome is Outcome.COMPLETED
    return folder / "policies" / "review-forge" / "1"


def artifact(root, number):
    folder = root / "policies" / "review-forge" / str(number)
    return folder, PolicyManifest.model_validate_json((folder / "policy.json").read_bytes())


def test_it_learns_what_is_rewarded_and_says_how_often_it_wins(start, attempt, tmp_path):
    block = {"iterations": 40, "batchSize": 16, "miniBatchSize": 8, "kl": {"target": 0.3}}
    (tmp_path / "probes.jsonl").write_text(json.dumps({"prompt": "Rate 3"}) + "\n")
    made = wanted(tmp_path, "ppo", start, block=block)
    probes = {"name": "probes", "uri": "file:///p", "path": str(tmp_path / "probes.jsonl")}
    made = type(made).model_validate({**made.to_wire(), "data": [*made.to_wire()["data"], probes]})
    report = attempt(made)
    assert report.outcome is Outcome.COMPLETED, report.message
    metrics = {m.name: m for m in report.metrics}
    assert metrics["eval_reward_delta"].value > 0.1, report.metrics
    assert metrics["win_rate"].value == pytest.approx(metrics["win_rate_delta"].value + 0.5)
    assert metrics["win_rate_delta"].low > 0
    assert 0 <= metrics["safety_violation_rate"].low <= metrics["safety_violation_rate"].high <= 1
    assert metrics["mean_tokens"].value <= 24
    assert metrics["kl"].value > 0
    made = artifact(tmp_path, 1)[1]
    assert (made.kind, made.generation.max_new_tokens) == ("CausalLM", 24)
    assert made.generation.temperature == 1  # it serves as it was judged


@pytest.mark.parametrize("adapter", [None, {"rank": 4, "alpha": 8}], ids=["whole", "adapter"])
def test_a_run_that_was_stopped_goes_on_bit_exactly(start, attempt, tmp_path, adapter):
    whole = attempt(wanted(tmp_path, "whole", start, adapter=adapter))
    assert whole.outcome is Outcome.COMPLETED, whole.message
    parts = wanted(tmp_path, "parts", start, adapter=adapter)
    first = attempt(parts, StopAt(look=3))
    assert (first.outcome, first.step) == (Outcome.PREEMPTED, 2)
    rest = attempt(parts)
    assert (rest.outcome, rest.resumed_from_step) == (Outcome.COMPLETED, 2)
    weights = [artifact(tmp_path, n)[0] / "model.safetensors" for n in (1, 2)]
    assert sha256(weights[0]) == sha256(weights[1])
    assert whole.metrics == rest.metrics


def test_the_first_divergence_is_nothing(start, attempt, tmp_path):
    """What samples and what is compared with are the same model at first, to the last bit or so."""
    block = {"iterations": 1, "learningRate": 1e-9}
    report = attempt(wanted(tmp_path, "first", start, block=block))
    assert {m.name: m.value for m in report.metrics}["kl"] == pytest.approx(0, abs=1e-5)


def test_the_divergence_is_that_of_the_policy_that_is_written(start, attempt, tmp_path):
    """Not of the one that answered last: the only iteration's answers are the start's own."""
    block = {"iterations": 1, "learningRate": 0.01}
    report = attempt(wanted(tmp_path, "one", start, block=block))
    found = {m.name: m for m in report.metrics}["kl"]
    assert found.value > 0.001
    assert found.low < found.value < found.high


def test_an_iteration_ends_when_the_policy_has_gone_far_enough(start, attempt, tmp_path):
    block = {"iterations": 2, "epochs": 8, "learningRate": 0.1, "batchSize": 16}
    made = wanted(tmp_path, "far", start, block=block)
    trained = run.train(made, process.join(made), StopRequest())
    assert 1 <= trained.fitted.history[0]["updates"] < 8 * 16 / 4


def test_zero3_is_refused(start, attempt, tmp_path):
    report = attempt(wanted(tmp_path, "zero3", start, compute={"deepspeed": {"stage": 3}}))
    assert (report.outcome, report.field) == (Outcome.CONFIG_INVALID, "compute.deepspeed.stage")
