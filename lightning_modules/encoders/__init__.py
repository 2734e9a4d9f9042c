"""Frozen pre-trained encoders of voices and faces, one file each; a new one goes into ``voices`` or ``faces``."""
