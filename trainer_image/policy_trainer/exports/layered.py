"""A small network as ONNX, with all that is needed to use it and to learn on; or as one JSON."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from policy_api.contract.artifact import Kind
from policy_models import offers, q_policy
from policy_models.layers import Layers
from policy_models.q_policy import QPolicy

from policy_trainer.errors import ConfigInvalidError
from policy_trainer.exports import onnx_check

ABOUT = "policyops"  # metadata of an ONNX file: the JSON that the artifact has beside the weights
OPSET, IR_VERSION = 17, 8  # old enough for runtimes of 2022
ROWS = 256  # of the check
SHAPES = {
    Kind.Q_NETWORK: (q_policy.FILE, q_policy.WEIGHTS, q_policy.ACTIVATION, "state", "q"),
    Kind.OFFER_POLICY: (offers.FILE, offers.WEIGHTS, offers.ACTIVATION, "observed", "logits"),
}


def write_onnx(folder: Path, file: Path, kind: Kind) -> float:
    """Write the network of a policy; return the largest difference of an output in onnxruntime.

    One input, float32 (rows, features), as the policy's JSON describes them: `state` of a CQL
    policy, `observed` of an offer policy. One output, (rows, actions): `q` or `logits`. The JSON
    itself is metadata of the file, under `policyops`.

    Raises:
        ConfigInvalidError: onnxruntime's outputs are others.
    """
    import onnx  # noqa: PLC0415 - only this export needs it
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415

    about, weights, activation, given, answered = SHAPES[kind]
    layers = Layers.read(folder / weights, activation)
    nodes, tensors, last = [], [], given
    for number, (weight, bias) in enumerate(layers.linear):
        if number:
            nodes.append(helper.make_node(activation.value, [last], [f"hidden{number}"]))
            last = f"hidden{number}"
        names = [f"{number}.weight", f"{number}.bias"]
        arrays = (weight.astype(np.float32), bias.astype(np.float32))
        tensors += [numpy_helper.from_array(a, n) for a, n in zip(arrays, names, strict=True)]
        after = answered if number == len(layers.linear) - 1 else f"linear{number}"
        nodes.append(helper.make_node("Gemm", [last, *names], [after], transB=1))
        last = after
    width, actions = layers.linear[0][0].shape[1], len(layers.linear[-1][1])
    graph = helper.make_graph(
        nodes,
        kind.value,
        [helper.make_tensor_value_info(given, TensorProto.FLOAT, ["rows", width])],
        [helper.make_tensor_value_info(answered, TensorProto.FLOAT, ["rows", actions])],
        tensors,
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    helper.set_model_props(model, {ABOUT: (folder / about).read_text()})
    onnx.save(model, file)
    asked = np.random.default_rng(0).normal(size=(ROWS, width)).astype(np.float32)
    return onnx_check.difference(file, {given: asked}, layers.apply(asked))


def read_onnx(content: bytes, name: str) -> QPolicy:
    """Return the policy of an ONNX file that `write_onnx` wrote of a CQL policy.

    Raises:
        ConfigInvalidError: it is not such a file.
    """
    import onnx  # noqa: PLC0415 - see write_onnx
    from google.protobuf.message import DecodeError  # noqa: PLC0415 - comes with onnx
    from onnx import numpy_helper  # noqa: PLC0415

    try:
        model = onnx.load_model_from_string(content)
    except DecodeError as error:
        raise ConfigInvalidError(f"{name} is no ONNX file: {error}", "base.onnx") from error
    about = {entry.key: entry.value for entry in model.metadata_props}.get(ABOUT)
    if about is None or model.graph.name != Kind.Q_NETWORK:
        raise ConfigInvalidError(
            f"{name} does not say what its inputs and actions are: wanted an ONNX file that "
            "recipe CQL exported",
            "base.onnx",
        )
    tensors = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    return QPolicy.from_json(json.loads(about), Layers.of(tensors, q_policy.ACTIVATION))


def write_json(folder: Path, file: Path, name: str) -> float:
    """Write a CQL policy as one file, weights and all; return 0: the numbers are the same.

    The artifact's q_policy.json with version, date, and under `q_network` its weights, in which
    `weight` is (out, in) and `bias` (out,) of each layer.
    """
    kept: dict[str, Any] = json.loads((folder / q_policy.FILE).read_text())
    layers = Layers.read(folder / q_policy.WEIGHTS, q_policy.ACTIVATION)
    network = {
        "architecture": layers.hidden,
        "activation": layers.activation.value,
        "weights": [{"weight": w.tolist(), "bias": b.tolist()} for w, b in layers.linear],
    }
    dated = {"version": name.rsplit("-", 1)[-1], "trained_date": f"{datetime.now(UTC):%Y-%m-%d}"}
    file.write_text(json.dumps({**dated, **kept, "q_network": network}) + "\n")
    return 0.0
