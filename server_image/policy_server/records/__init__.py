"""Keeps what is decided and said: a queue, a spool, and one thread that writes."""
