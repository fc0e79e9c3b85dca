"""What a decision is: asked of the model, checked, counted, logged."""
