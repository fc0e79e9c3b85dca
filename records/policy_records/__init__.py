"""The decision log: what was decided, what came of it, and what people said of it."""
