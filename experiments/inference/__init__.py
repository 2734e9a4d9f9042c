"""A trained model applied to files: reading it back, embedding, scoring, exporting."""
