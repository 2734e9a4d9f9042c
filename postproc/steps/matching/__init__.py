"""Matching of fine voice and face clusters by calibrated probabilities."""
