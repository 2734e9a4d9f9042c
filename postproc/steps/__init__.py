"""One file per refinement step."""
