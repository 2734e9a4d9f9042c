"""What a person sees on the terminal: options, errors, warnings, progress, tables."""
