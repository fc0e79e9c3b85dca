"""A server that is not ours, and the container of ours before it that has the artifact checked."""

from policy_api.contract.environment import (
    ARTIFACT_PATH_VARIABLE,
    ARTIFACT_ROOT,
    ARTIFACT_SHA256_VARIABLE,
    DOWNLOAD_VARIABLE,
)
from policy_api.contract.uris import locate
from policy_api.v1alpha1.engine import CustomEngine

from policy_operator.machinery.cache import Obj
from policy_operator.registry.types import VersionRecord
from policy_operator.rollout.containers import (
    HOME,
    TMP,
    Parts,
    answering,
    claimed,
    credentials,
    identity,
    protected,
    variables,
)
from policy_operator.rollout.types import PolicyDeployment

FETCHER = "artifact"  # name of the container that runs before the engine


def custom(
    pdep: PolicyDeployment, record: VersionRecord, engine: CustomEngine, image: str
) -> Parts:
    """Return the engine, which finds the version's artifact checked.

    The keys of the artifact's store are the init container's alone.

    Args:
        pdep: Its owner.
        record: What it serves.
        engine: How it is started and asked.
        image: The operator's server image: it has the program that fetches.
    """
    location, sha256 = locate(record.artifact.uri), record.artifact.sha256
    remote = "://" in location.path
    volumes, mounts = claimed(location)
    kept: list[Obj] = []
    if remote:
        volumes = [{"name": "artifact", "emptyDir": {}}]
        kept = [{"name": "artifact", "mountPath": ARTIFACT_ROOT}]
        mounts = [{**kept[0], "readOnly": True}]
    known = identity(pdep, record)
    fetcher = {
        **protected(FETCHER, image),
        "command": ["python", "-m", "policy_server.fetch"],
        "env": variables(
            {
                ARTIFACT_PATH_VARIABLE: location.path,
                ARTIFACT_SHA256_VARIABLE: sha256,
                DOWNLOAD_VARIABLE: ARTIFACT_ROOT,
                **known,
                **HOME,
            }
        ),
        "volumeMounts": [TMP, *(kept or mounts)],
        **credentials(record),
    }
    path = f"{ARTIFACT_ROOT}/{sha256}" if remote else location.path
    env = {ARTIFACT_PATH_VARIABLE: path, **known, "PORT": str(engine.port), **HOME}
    server = {
        **answering(
            pdep.spec.server.image or "",
            engine.port,
            ready=engine.readiness_path,
            alive=engine.liveness_path,
        ),
        **({"command": engine.command} if engine.command else {}),
        **({"args": engine.args} if engine.args else {}),
        "env": variables(env),
        "volumeMounts": [TMP, *mounts],
    }
    return Parts(
        server=server,
        volumes=({"name": "tmp", "emptyDir": {}}, *volumes),
        port=engine.port,
        metrics_path=engine.metrics_path,
        before=(fetcher,),
    )
