"""Which of the API server's refusals may pass."""

import json

import pytest
from policy_operator.machinery import errors

FIELD = {"reason": "FieldValueInvalid", "message": "…", "field": "spec.template.spec.containers"}
# VAPs: as apiserver 1.36 answers; webhooks choose code and reason themselves.
REFUSALS = {
    "its own validation": (422, "Invalid", "Job.batch is invalid", [FIELD], errors.Invalid),
    "what can't be decoded": (
        400,
        "BadRequest",
        'Job in version "v1" cannot be handled as a Job: quantities must match',
        [],
        errors.Invalid,
    ),
    "an admission policy": (
        422,
        "Invalid",
        "jobs.batch \"a\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied",
        [{"message": "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no"}],
        errors.Denied,
    ),
    "a policy that says Forbidden": (403, "Forbidden", "is forbidden", [], errors.Denied),
    "a policy that says too large": (413, "RequestEntityTooLarge", "no", [], errors.Denied),
    "a quota": (403, "Forbidden", 'pods "a" is forbidden: exceeded quota: q', [], errors.Denied),
    "a webhook": (400, "", 'admission webhook "w" denied the request: no', [], errors.Denied),
    "a webhook that names fields": (
        422,
        "Invalid",
        'admission webhook "w" denied the request: no',
        [FIELD],
        errors.Denied,
    ),
    "a webhook with a code of its own": (
        404,
        "NotFound",
        'admission webhook "w" denied the request: no such team',
        [],
        errors.Denied,
    ),
    "a webhook that is away": (
        500,
        "InternalError",
        'Internal error occurred: failed calling webhook "w": connection refused',
        [],
        errors.Denied,
    ),
    "a namespace that ends": (
        403,
        "Forbidden",
        "because it is being terminated",
        [{"reason": "NamespaceTerminating", "field": "metadata.namespace"}],
        errors.NamespaceTerminating,
    ),
    "another of that name": (409, "AlreadyExists", "exists", [], errors.AlreadyExists),
    "an overloaded API server": (500, "InternalError", "etcdserver: timeout", [], errors.ApiError),
}


@pytest.mark.parametrize(
    ("status", "reason", "message", "causes", "wanted"), REFUSALS.values(), ids=REFUSALS.keys()
)
def test_a_refusal_is_told_from_another(status, reason, message, causes, wanted):
    answer = {"reason": reason, "message": message, "details": {"causes": causes}}
    error = errors.refusal(status, json.dumps(answer).encode(), "POST /x")
    assert type(error) is wanted
    assert (error.status, error.message) == (status, message)


def test_an_answer_that_is_no_status_is_an_error():
    assert type(errors.refusal(502, b"<html>bad gateway", "POST /x")) is errors.ApiError
