"""Reads and writes files. Every error names the file, the line and the remedy."""
