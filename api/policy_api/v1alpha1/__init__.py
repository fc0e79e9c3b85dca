"""Version v1alpha1 of the API: PolicyTraining, PolicyDeployment and PolicyVersion."""
