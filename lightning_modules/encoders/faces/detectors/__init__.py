"""Face detectors, one file each; all turn the largest face of an image upright."""
