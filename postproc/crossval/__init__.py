"""Cross-validation on training identities: test sets of identities that the scorer has not seen."""
