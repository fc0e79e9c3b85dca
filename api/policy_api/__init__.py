"""Shapes and pure rules that more than one program needs; depends on pydantic only."""

__version__ = "0.1.0"
