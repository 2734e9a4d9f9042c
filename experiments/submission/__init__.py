"""Challenge submissions: score files, their archive, and the check of both."""
