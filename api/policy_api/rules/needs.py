"""The versions that a training needs: what it starts from, and what takes part in it. Pure.

Each has a role: `base`, a name of spec.referenceModels, `judge`, or `version:<N>` of a criterion
that judges `against` it.
"""

from policy_api.v1alpha1.inputs import Reference, VersionRef
from policy_api.v1alpha1.training import PolicyTrainingSpec

BASE = "base"  # the role of what training starts from
JUDGE = "judge"  # of the model that judges answers


def needs(spec: PolicyTrainingSpec) -> dict[str, Reference]:
    """Return what the spec names, by role: a training, or a version of a policy."""
    made: dict[str, Reference] = {}
    base, models = spec.base, spec.reference_models
    if base is not None and base.training is not None:
        made[BASE] = Reference(training=base.training)
    elif base is not None and base.version is not None:
        made[BASE] = _version(spec, base.version)
    for role in type(models).model_fields if models is not None else ():
        reference: Reference | None = getattr(models, role)
        if reference is not None:
            made[role] = reference
    if spec.judge is not None and spec.judge.training is not None:
        made[JUDGE] = Reference(training=spec.judge.training)
    for criterion in spec.exit_criteria:
        if criterion.against.startswith("version:"):
            number = int(criterion.against.removeprefix("version:"))
            made[criterion.against] = _version(spec, number)
    return made


def _version(spec: PolicyTrainingSpec, number: int) -> Reference:
    return Reference(version=VersionRef(policy=spec.policy, version=number))
