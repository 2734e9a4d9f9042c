"""One thin module per command: its options and the call of what does the work. Imports nothing slow."""
