"""Settings of every test: Hypothesis looks anew each time, but in CI it repeats itself.

A failure that CI finds by chance, in a change that has nothing to do with it, helps nobody. A
developer's runs go on looking for more.
"""

import os

from hypothesis import settings

settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("local", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "local")
