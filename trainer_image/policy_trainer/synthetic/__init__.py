"""Data of the examples, from a seed: one file a system. The same arguments make the same bytes."""
