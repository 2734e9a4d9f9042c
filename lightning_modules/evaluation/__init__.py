"""Embeds each unique voice and face once, gathers the embeddings over ranks, and scores the trials."""
