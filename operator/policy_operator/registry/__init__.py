"""Versions: their numbers and what is recorded of them."""
