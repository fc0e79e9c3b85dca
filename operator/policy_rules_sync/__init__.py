"""A sidecar of Prometheus: keeps a folder of rule files equal to labelled ConfigMaps."""
