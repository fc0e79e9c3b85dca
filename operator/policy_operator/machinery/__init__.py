"""What every controller needs: cache, queue, watches, the API server, the Lease, logs."""
