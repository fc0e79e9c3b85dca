"""Prepare data for trainings: `policyctl data`. Rows pass one by one; nothing here needs torch."""
