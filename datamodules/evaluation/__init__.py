"""Test conditions, the evaluation set made of them, and the checks before a run."""
