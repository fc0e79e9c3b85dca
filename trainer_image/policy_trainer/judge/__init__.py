"""Language models that judge answers: ratings by named criteria, and comparisons of two.

`prompts.py` has every word that a judge reads, `endpoint.py` and `local.py` ask one, `judge.py`
adds the cache and the account, `opened.py` chooses by a run's config, `__main__.py` is the command.
"""
