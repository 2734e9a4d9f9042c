"""Makes a manifest of a folder of media."""
