"""Settings of every test: one thread of torch, and how Hypothesis looks for examples.

Tests run beside servers and other processes, and with as many threads as cores in each, all of them
wait: a minute becomes ten. Hypothesis looks anew each time, but in CI it repeats itself.

A failure that CI finds by chance, in a change that has nothing to do with it, helps nobody. A
developer's runs go on looking for more.
"""

import os

from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by torch when it is imported

settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("local", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "local")
