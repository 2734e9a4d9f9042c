"""What a fit or test takes along: results, pictures, checkpoints, signals, resuming, the record of the run."""
