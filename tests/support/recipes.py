"""Recipes for short training runs."""

from __future__ import annotations

from dexpression.training.recipe import Recipe

QUICK = Recipe(from_scratch=True, epochs=3, batch_size=16, ema_decay=0.5, precision="float32")
