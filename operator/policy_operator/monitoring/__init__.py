"""What Prometheus and Alertmanager say."""
