"""The command line of Policy Operator; also `kubectl policy`."""
