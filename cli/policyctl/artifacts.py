"""Look at an artifact's folder, and check that it is what its manifest says."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from policy_api.contract.artifact import CLAIM, MANIFEST, PolicyManifest, parse_manifest
from policy_api.rules import criteria
from policy_api.rules.cost import HOUR
from policy_api.v1alpha1.budget import Cost
from pydantic import ValidationError

from policyctl.errors import UserError


def load(folder: Path) -> PolicyManifest:
    """Return the manifest of an artifact.

    Raises:
        UserError: there is none.
    """
    file = folder / MANIFEST
    try:
        return parse_manifest(file.read_bytes())
    except OSError as error:
        raise UserError(f"{folder} is no artifact: cannot read {file}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{file}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except ValueError as error:
        raise UserError(f"{file}: {error}") from error


def faults(folder: Path, manifest: PolicyManifest) -> Iterator[str]:
    """Yield a sentence for each file that is missing, changed, or not in the manifest."""
    for listed in manifest.files:
        file = folder / listed.path
        if not file.is_file():
            yield f"{listed.path} is missing"
            continue
        with file.open("rb") as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()
        if found != listed.sha256:
            yield f"{listed.path} has sha256 {found}, wanted {listed.sha256}"
    known = {listed.path for listed in manifest.files} | {MANIFEST, CLAIM}
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        if file.is_file() and name not in known:
            yield f"{name} is not in {MANIFEST}"


def verify(folder: Path) -> str:
    """Check every file; return a sentence that says so.

    Raises:
        UserError: says every fault.
    """
    manifest = load(folder)
    if found := list(faults(folder, manifest)):
        raise UserError("\n".join(f"{folder}: {fault}" for fault in found))
    size = sum(listed.bytes for listed in manifest.files)
    return (
        f"{manifest.policy} version {manifest.version}: "
        f"all {len(manifest.files)} files are as written ({size:,} bytes)"
    )


def describe(folder: Path) -> str:
    """Return what an artifact is, its metrics and its verdict, for people."""
    made = load(folder)
    lines = [
        f"policy     {made.policy} version {made.version}" + (f" ({made.tag})" if made.tag else ""),
        f"kind       {made.kind}, by recipe {made.recipe}, seed {made.seed}",
        f"training   {made.training['namespace']}/{made.training['name']}",
        f"created    {made.created_at:%Y-%m-%d %H:%M:%S} UTC",
    ]
    if made.parent is not None:
        lines.append(f"parent     {made.parent.policy} version {made.parent.version}")
    lines += [f"data       {d.name}: {d.rows:,} rows of {d.uri}" for d in made.data]
    lines += [
        f"export     {e.path}, its outputs differ by at most {e.max_difference:.2g}"
        for e in made.exports
    ]
    if made.costs:
        lines.append(f"cost       {cost_of(made.costs[-1].cost)}")
    if made.stopped_early:
        lines.append(f"stopped    {made.stopped_early}")
    verdict = "accepted" if all(v.met for v in made.exit_criteria) else "not accepted"
    lines += [f"verdict    {verdict}: {criteria.summary(made.exit_criteria)}", ""]
    return "\n".join(lines + table(made))


def cost_of(cost: Cost) -> str:
    """Return what a version cost, in a few words."""
    hours = f"{cost.gpu_seconds / HOUR:.3g} GPU hours" if cost.gpu_seconds else ""
    time = hours or f"{cost.cpu_seconds / HOUR:.3g} CPU hours"
    if cost.usd is None:
        return time
    estimated = "" if cost.estimated_usd is None else f", estimated {cost.estimated_usd:.4g}"
    return f"{cost.usd:.4g} USD ({time}{estimated})"


def table(made: PolicyManifest) -> list[str]:
    """Return the metrics, a line each."""
    width = max((len(metric.name) for metric in made.metrics), default=0)
    return [
        f"  {m.name:<{width}}  {m.value:>10.4g}"
        + (f"  [{m.low:.4g}, {m.high:.4g}]" if m.low is not None and m.high is not None else "")
        for m in made.metrics
    ]
