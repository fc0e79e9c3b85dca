"""Pure rules that the operator, the trainer and policyctl share."""
