"""Frozen encoders of voices, one file for each library or format of weights."""
