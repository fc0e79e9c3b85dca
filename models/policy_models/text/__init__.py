"""Text policies. torch and transformers are imported by `generator` and `decoding` alone."""
