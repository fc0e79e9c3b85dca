"""The operator: turns PolicyTrainings into versions and PolicyDeployments into safe traffic."""
