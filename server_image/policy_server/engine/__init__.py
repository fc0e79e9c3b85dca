"""The model behind one thread: what it is asked, and in which batches."""
