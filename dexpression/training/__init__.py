"""From labelled faces to an export: data, recipe, training runs and evaluation."""
