"""One file a recipe, each readable from top to bottom."""
