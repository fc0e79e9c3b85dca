"""The policy server: loads one version's artifact and answers decisions over HTTP."""
