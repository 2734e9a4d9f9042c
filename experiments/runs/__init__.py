"""The run folder: what it holds, who writes it and who reads it back; many fits in processes."""
