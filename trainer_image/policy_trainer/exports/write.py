"""Write a version's model in other formats, from the files of its artifact."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from policy_api.contract.artifact import Kind, ManifestExport
from policy_api.v1alpha1.store import Export, GGUFType

from policy_trainer.errors import ConfigInvalidError
from policy_trainer.exports import FIELD, gguf_text, layered, onnx_text

# Takes the artifact's folder and the file to write; returns how far its outputs are off.
Exporter = Callable[[Path, Path], float]

TEXT = (Kind.CAUSAL_LM, Kind.REWARD_MODEL)
NETWORKS = (Kind.Q_NETWORK, Kind.OFFER_POLICY)


@dataclass(frozen=True)
class Wanted:
    """What to write."""

    formats: Sequence[Export]
    gguf_types: Sequence[GGUFType]


def write(
    folder: Path, output: Path, kind: Kind, name: str, wanted: Wanted
) -> tuple[ManifestExport, ...]:
    """Write files in other formats, each checked by reading it back.

    Args:
        folder: The artifact's own files.
        output: Where to; it is made.
        kind: What the artifact is.
        name: Of the files, without their ending: `<policy>-v<version>`.
        wanted: Which formats.

    Returns:
        What was written, with paths relative to `output`; a format that the artifact is made of
        (SafeTensors, or the JSON of a classifier) needs no file more.

    Raises:
        ConfigInvalidError: the model is not of a kind or architecture that the format knows, or
            what was written does not answer as the model does.
    """
    made = []
    for format_, encoding, ending, export in _files(folder, kind, name, wanted):
        output.mkdir(parents=True, exist_ok=True)
        file = output / f"{name}{ending}"
        off = export(folder, file)
        made.append(
            ManifestExport(format=format_, gguf_type=encoding, path=file.name, max_difference=off)
        )
    return tuple(made)


def _files(
    folder: Path, kind: Kind, name: str, wanted: Wanted
) -> Iterable[tuple[Export, GGUFType | None, str, Exporter]]:
    """Yield (format, type, ending, exporter) of each file."""
    for format_ in wanted.formats:
        if format_ is Export.GGUF and kind is Kind.CAUSAL_LM:
            own = gguf_text.logits(folder)
            for type_ in wanted.gguf_types:
                export = partial(gguf_text.write, type_=type_, wanted=own)
                yield format_, type_, f"-{type_}.gguf", export
        elif format_ is Export.ONNX and kind in TEXT:
            yield format_, None, ".onnx", partial(onnx_text.write, kind=kind)
        elif format_ is Export.ONNX and kind in NETWORKS:
            yield format_, None, ".onnx", partial(layered.write_onnx, kind=kind)
        elif format_ is Export.JSON and kind is Kind.Q_NETWORK:
            yield format_, None, ".json", partial(layered.write_json, name=name)
        elif not _made_of(format_, kind):
            raise ConfigInvalidError(f"a {kind} cannot be written as {format_}", field=FIELD)


def _made_of(format_: Export, kind: Kind) -> bool:
    if kind in {*TEXT, *NETWORKS}:
        return format_ is Export.SAFETENSORS
    return format_ is Export.JSON
