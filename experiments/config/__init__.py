"""How configs and arguments are found, read under their present names, checked and turned into objects."""
