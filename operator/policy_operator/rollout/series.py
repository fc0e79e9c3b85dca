"""The series that alerts with a preset read: the built-in server's, or an engine's own. Pure."""

from dataclasses import dataclass

from policy_api.keys import METRIC_DECISION_ERRORS, METRIC_DECISION_SECONDS, METRIC_DECISIONS
from policy_api.v1alpha1.engine import EngineSeries

from policy_operator.rollout.types import PolicyDeployment


def _pods(pdep: PolicyDeployment) -> str:
    """Select the series of this deployment's servers.

    A pod's name is <deployment>-v<N>-<replica set>-<id>; the alphabet of the last two has no
    hyphen, so a deployment whose name begins with this one's name does not match.
    """
    return f"{pdep.meta.name}-v[0-9]+-[a-z0-9]+-[a-z0-9]+"


@dataclass(frozen=True)
class Series:
    """PromQL of a deployment's counters and histogram, each with the label `version`."""

    pdep: PolicyDeployment

    @property
    def _own(self) -> EngineSeries | None:
        engine = self.pdep.spec.server.custom
        return engine.metrics if engine is not None else None

    def decisions(self, function: str, window: str) -> str:
        """Return e.g. the rate of all decisions."""
        own = self._own
        return self._of(METRIC_DECISIONS if own is None else own.decisions, function, window)

    def errors(self, function: str, window: str) -> str:
        """Return e.g. the rate of those that failed."""
        own = self._own
        name = METRIC_DECISION_ERRORS if own is None else own.errors or ""
        return self._of(name, function, window)

    def buckets(self, function: str, window: str) -> str:
        """Return e.g. the rates of the buckets of how long they took."""
        own = self._own
        name = METRIC_DECISION_SECONDS if own is None else own.seconds or ""
        bare, brace, labels = name.partition("{")
        return self._of(f"{bare}_bucket{brace}{labels}", function, window)

    def _of(self, name: str, function: str, window: str) -> str:
        pdep = self.pdep
        where = f'namespace="{pdep.meta.namespace}"'
        pods = f'pod=~"{_pods(pdep)}"'
        if self._own is None:
            selector = f'{where},policy="{pdep.spec.policy}",{pods}'
            return f"{function}({name}{{{selector}}}{window})"
        # Of an engine that is not ours only the pod's name says which version it is.
        bare, _, labels = name.partition("{")
        chosen = ",".join(part for part in (labels.removesuffix("}"), where, pods) if part)
        version = f'"version", "$1", "pod", "{pdep.meta.name}-v([0-9]+)-.*"'
        return f"label_replace({function}({bare}{{{chosen}}}{window}), {version})"
