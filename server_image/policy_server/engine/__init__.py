"""The policy as it is asked: at once, or behind one thread and in which batches."""
