"""What ``bench`` measures: our functions against the plain way, each in a process of its own."""
