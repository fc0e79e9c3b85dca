"""One step each; a step that a release had is never changed."""
