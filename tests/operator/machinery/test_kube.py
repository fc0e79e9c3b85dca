"""Which of the API server's refusals may pass."""

import json

import pytest
from policy_operator.machinery import kube

FIELD = {"reason": "FieldValueInvalid", "message": "…", "field": "spec.template.spec.containers"}
# VAPs: as apiserver 1.36 answers; webhooks choose code and reason themselves.
REFUSALS = {
    "its own validation": (422, "Invalid", "Job.batch is invalid", [FIELD], kube.Invalid),
    "what can't be decoded": (
        400,
        "BadRequest",
        'Job in version "v1" cannot be handled as a Job: quantities must match',
        [],
        kube.Invalid,
    ),
    "an admission policy": (
        422,
        "Invalid",
        "jobs.batch \"a\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied",
        [{"message": "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no"}],
        kube.Denied,
    ),
    "a policy that says Forbidden": (403, "Forbidden", "is forbidden", [], kube.Denied),
    "a policy that says too large": (413, "RequestEntityTooLarge", "no", [], kube.Denied),
    "a quota": (403, "Forbidden", 'pods "a" is forbidden: exceeded quota: q', [], kube.Denied),
    "a webhook": (400, "", 'admission webhook "w" denied the request: no', [], kube.Denied),
    "a webhook that names fields": (
        422,
        "Invalid",
        'admission webhook "w" denied the request: no',
        [FIELD],
        kube.Denied,
    ),
    "a webhook with a code of its own": (
        404,
        "NotFound",
        'admission webhook "w" denied the request: no such team',
        [],
        kube.Denied,
    ),
    "a webhook that is away": (
        500,
        "InternalError",
        'Internal error occurred: failed calling webhook "w": connection refused',
        [],
        kube.Denied,
    ),
    "a namespace that ends": (
        403,
        "Forbidden",
        "because it is being terminated",
        [{"reason": "NamespaceTerminating", "field": "metadata.namespace"}],
        kube.NamespaceTerminating,
    ),
    "another of that name": (409, "AlreadyExists", "exists", [], kube.AlreadyExists),
    "an overloaded API server": (500, "InternalError", "etcdserver: timeout", [], kube.ApiError),
}


@pytest.mark.parametrize(
    ("status", "reason", "message", "causes", "wanted"), REFUSALS.values(), ids=REFUSALS.keys()
)
def test_a_refusal_is_told_from_another(status, reason, message, causes, wanted):
    answer = {"reason": reason, "message": message, "details": {"causes": causes}}
    error = kube._error(status, json.dumps(answer).encode(), "POST /x")
    assert type(error) is wanted
    assert (error.status, error.message) == (status, message)


def test_an_answer_that_is_no_status_is_an_error():
    assert type(kube._error(502, b"<html>bad gateway", "POST /x")) is kube.ApiError
