"""`python -m policy_operator`."""

import asyncio

from policy_operator.main import main

asyncio.run(main())
