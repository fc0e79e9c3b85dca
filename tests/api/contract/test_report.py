"""The termination message fits in 4,096 bytes and the progress body is read as KEP-2779 says."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_api.base import Metric
from policy_api.contract.environment import TERMINATION_LIMIT
from policy_api.contract.progress import parse_progress
from policy_api.contract.report import (
    EXIT_CODES,
    Outcome,
    ReportedArtifact,
    TrainingReport,
    decode,
    finite,
)

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=3000)
short = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
metrics = st.lists(
    st.builds(
        Metric,
        name=st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=63),
        value=st.floats(allow_nan=False, allow_infinity=False),
        low=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    ),
    max_size=60,
).map(tuple)
artifacts = st.none() | st.builds(
    ReportedArtifact,
    uri=st.text("abc/:.", min_size=1, max_size=200).map(lambda s: "pvc://" + s),
    sha256=st.just("0" * 64),
    version=st.integers(1, 10**6),
)
reports = st.builds(
    TrainingReport,
    outcome=st.sampled_from(Outcome),
    message=text,
    field=st.none() | short,
    step=st.none() | st.integers(0, 10**9),
    metrics=metrics,
    artifact=artifacts,
)


@given(reports)
def test_a_report_always_fits_and_reads_back(report: TrainingReport) -> None:
    encoded = report.encode()
    assert len(encoded.encode()) <= TERMINATION_LIMIT
    read = decode(encoded)
    assert read is not None
    assert read.outcome == report.outcome
    assert read.artifact == report.artifact
    assert read.step == report.step
    assert report.message.startswith(read.message)
    assert read.metrics == report.metrics[: len(read.metrics)]


def test_a_long_message_is_cut_before_a_metric_is_lost() -> None:
    many = tuple(Metric(name=f"metric_{i}", value=i / 7) for i in range(40))
    report = TrainingReport(outcome=Outcome.TRAINER_FAILED, message="x" * 5000, metrics=many)
    read = decode(report.encode())
    assert read is not None
    assert read.metrics == many
    assert 200 <= len(read.message) < 5000


def test_even_a_long_field_fits() -> None:
    """A row quoted whole as the field at fault must not make the encoder run for ever."""
    report = TrainingReport(outcome=Outcome.DATA_INVALID, message="m", field="f" * 9000)
    assert len(report.encode().encode()) <= TERMINATION_LIMIT


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_diverged_metric_is_still_a_report(number: float) -> None:
    """NaN is what a diverged run reports: the report must say it, not vanish."""
    report = TrainingReport(
        outcome=Outcome.COMPLETED,
        metrics=(Metric(name="loss", value=number), Metric(name="reward", value=0.5)),
    )
    read = decode(report.encode())
    assert read is not None
    assert str(read.metrics[0].value) == str(number)
    assert read.metrics[1].value == 0.5


def test_only_finite_numbers_reach_the_api_server() -> None:
    nan, inf = float("nan"), float("inf")
    reported = (
        Metric(name="loss", value=nan),
        Metric(name="gain", value=inf),
        Metric(name="reward", value=0.5, low=-inf, high=0.75),
        Metric(name="zero", value=0.0, low=0.0, high=nan),
    )
    assert finite(reported) == (
        Metric(name="reward", value=0.5, high=0.75),
        Metric(name="zero", value=0.0, low=0.0),
    )


@pytest.mark.parametrize(
    "message",
    ["", "OOMKilled", "{", "[]", "null", '{"outcome":1}', '{"message":"x"}'],
)
def test_what_is_no_report_is_none(message: str) -> None:
    assert decode(message) is None


def test_every_outcome_has_its_own_exit_code() -> None:
    assert set(EXIT_CODES) == set(Outcome)
    assert len(set(EXIT_CODES.values())) == len(EXIT_CODES)
    assert EXIT_CODES[Outcome.COMPLETED] == 0
    assert EXIT_CODES[Outcome.DATA_INVALID] == 65
    assert EXIT_CODES[Outcome.TRAINER_FAILED] == 70
    assert EXIT_CODES[Outcome.PREEMPTED] == 75
    assert EXIT_CODES[Outcome.CONFIG_INVALID] == 78
    assert EXIT_CODES[Outcome.OUT_OF_MEMORY] == 137


def test_progress_as_transformers_sends_it() -> None:
    body = {
        "trainerStatus": {
            "progressPercentage": 45,
            "estimatedRemainingSeconds": 120,
            "metrics": [{"name": "loss", "value": "0.25"}, {"name": "epoch", "value": "1.5"}],
            "lastUpdatedTime": "2026-01-02T03:04:05.123456+00:00",
            "somethingNew": {"is": "ignored"},
        },
        "other": 1,
    }
    status = parse_progress(json.dumps(body).encode()).trainer_status
    assert status.progress_percentage == 45
    assert status.estimated_remaining_seconds == 120
    assert [(m.name, m.value) for m in status.metrics] == [("loss", 0.25), ("epoch", 1.5)]


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "body: Invalid JSON"),
        (b"[]", "body: Input should be an object"),
        (b"{}", "trainerStatus: Field required"),
        (
            b'{"trainerStatus": {"progressPercentage": 101}}',
            "trainerStatus.progressPercentage: Input should be less than or equal to 100",
        ),
        (
            b'{"trainerStatus": {"estimatedRemainingSeconds": -1}}',
            "trainerStatus.estimatedRemainingSeconds: Input should be greater than or equal to 0",
        ),
        (
            b'{"trainerStatus": {"metrics": [{"name": "loss", "value": "low"}]}}',
            "trainerStatus.metrics.0.value: Input should be a valid number",
        ),
    ],
)
def test_a_bad_progress_body_is_told(body: bytes, sentence: str) -> None:
    with pytest.raises(ValueError, match="^" + sentence.replace(".", r"\.")):
        parse_progress(body)
