"""PolicyTraining: observe what is, decide what should be (pure), build manifests, apply."""
