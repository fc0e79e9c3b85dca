"""PolicyDeployment: observe, decide (pure), apply."""
