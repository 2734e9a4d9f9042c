"""The commands for data of one's own: a manifest of recordings, their embeddings, and who is tested."""
