"""Recipes for short training runs."""

from __future__ import annotations

from dexpression.training.recipe import Recipe

# From scratch, and with a value for every option, so that nothing follows from the data.
QUICK = Recipe(from_scratch=True, epochs=3, batch_size=16, learning_rate=3e-3, ema_decay=0.5, precision="float32")
