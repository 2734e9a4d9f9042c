"""Data modules for embeddings, in a memory-mapped store."""
