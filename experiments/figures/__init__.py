"""Figures of a tested run: elbows, prototypes, DET curves, histograms, accepted pairs, maps of the embeddings."""
