"""Commands that use a trained model: ``app``, ``export``, ``score``."""
