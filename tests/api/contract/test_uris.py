"""Where a pod finds what a URI names."""

import pytest
from policy_api.contract.uris import Location, local_path, locate


@pytest.mark.parametrize(
    ("uri", "place"),
    [
        ("pvc://models/a/b", Location("/var/lib/policyops/pvc/models/a/b", claim="models")),
        ("pvc://models/a/b/", Location("/var/lib/policyops/pvc/models/a/b", claim="models")),
        ("pvc://models", Location("/var/lib/policyops/pvc/models", claim="models")),
        (
            "configmap://data/train.jsonl",
            Location("/var/lib/policyops/configmap/data/train.jsonl", config_map="data"),
        ),
        ("s3://bucket/a/b", Location("s3://bucket/a/b")),
        ("file:///artifacts/a", Location("/artifacts/a")),
        ("facebook/opt-350m", Location("facebook/opt-350m")),
    ],
)
def test_where_a_pod_finds_what_a_uri_names(uri, place):
    assert locate(uri) == place
    assert local_path(uri) == place.path
