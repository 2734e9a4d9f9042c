"""A page in the browser that compares voices with faces by a trained model, on this machine alone."""
