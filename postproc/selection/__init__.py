"""Steps that decide, by cross-validation on training identities, which refinement to apply and how much of it."""
