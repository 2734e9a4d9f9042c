"""Data modules for wav and jpg files."""
