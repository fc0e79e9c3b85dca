"""Versions in formats of other programs: GGUF, ONNX, JSON. Each is read back before it counts."""

FIELD = "artifact.exports"  # for messages
