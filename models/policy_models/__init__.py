"""What a trained artifact computes: one code for evaluation, serving and policyctl."""
