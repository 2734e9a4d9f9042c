"""MAV-Celeb v1 to v4: folders, lists and the data module."""
