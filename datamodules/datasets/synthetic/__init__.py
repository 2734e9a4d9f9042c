"""Synthetic embeddings, voices and faces for the demo and for tests."""
