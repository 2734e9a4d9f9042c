"""Where things lie, for all tests."""

from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
CONFIGS = REPOSITORY / "configs"
TINY = REPOSITORY / "tests" / "conf" / "tiny.yaml"
