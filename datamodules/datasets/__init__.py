"""One folder for each data set."""
