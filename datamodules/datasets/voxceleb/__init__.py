"""VoxCeleb1: public splits, test lists and the data modules."""
