"""Metrics of trial lists, rankings and clusters, with controls and confidence intervals."""
