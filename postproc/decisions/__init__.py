"""What a refinement assumes, checked on every test condition without labels, and what it may be expected to gain."""
