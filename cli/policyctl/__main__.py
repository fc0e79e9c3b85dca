"""`python -m policyctl`."""

import sys

from policyctl.main import main

sys.exit(main())
