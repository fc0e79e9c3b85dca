"""The trainer: what runs in the pods of a PolicyTraining."""
