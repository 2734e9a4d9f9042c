"""What ``bench`` measures: our functions against the plain way, each in its own process."""
