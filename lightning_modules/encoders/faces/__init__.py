"""Frozen encoders of faces, one file for each library or format of weights."""
