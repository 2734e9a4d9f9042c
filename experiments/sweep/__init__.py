"""Sweeps: many fits from one file, run on this machine, a SLURM cluster or by W&B agents."""
