"""Draw the figures of the README and of the model card."""
