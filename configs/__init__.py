"""Recipes: YAML files of settings, which `r1sharevl train` finds by name wherever it is installed."""
