"""What one program tells another: run.json, reports, artifacts, environment, URIs."""
