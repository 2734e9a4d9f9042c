"""Tests of README files, configs, API pages and the notebook."""
