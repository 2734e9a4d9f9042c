"""Configs that ship with the package: whole runs at the top level, one folder for each group of a run."""
