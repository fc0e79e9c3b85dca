"""What the examples need besides their manifests: their data, made from a seed, and their load."""
