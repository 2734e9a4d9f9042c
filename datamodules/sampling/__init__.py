"""Draws training batches, validation identities, trial lists and ranking lists."""
