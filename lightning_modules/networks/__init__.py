"""Networks that the methods train, and the reading of weights files."""
