"""Every string that a user may grep is written once."""

from policy_api import keys
from policy_api.v1alpha1.version import version_name, version_of


def _values(prefix: str) -> list[str]:
    return [value for name, value in vars(keys).items() if name.startswith(prefix)]


def test_values_are_unique_within_their_room() -> None:
    for prefix in ("LABEL_", "ANNOTATION_", "ALERT_LABEL_", "COND_", "EXIT_", "METRIC_", "ROLE_"):
        values = _values(prefix)
        assert values, prefix
        assert len(values) == len(set(values)), prefix


def test_our_labels_and_annotations_are_in_our_group() -> None:
    ours = [*_values("LABEL_"), *_values("ANNOTATION_")]
    assert [v for v in ours if not v.startswith("policyops.dev/")] == [
        "app.kubernetes.io/managed-by",
        "app.kubernetes.io/name",
    ]


def test_metrics_are_named_as_prometheus_wants_them() -> None:
    for name in _values("METRIC_"):
        assert name.startswith("policyops_"), name
        assert name == name.lower(), name


def test_version_name_is_the_claim() -> None:
    assert version_name("review-forge", 7) == "review-forge-v7"
    assert version_of({"spec": {"policy": "review-forge", "version": 7}}) == 7
