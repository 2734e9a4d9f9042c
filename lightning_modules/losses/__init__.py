"""Losses of the methods; under DDP they see the pairs of all ranks."""
