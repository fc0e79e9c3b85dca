"""The typed block of each recipe, one file a recipe, as in trainer_image/policy_trainer/recipes."""
