from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lightning_modules.pool import Pool


@pytest.fixture(scope="session")
def two_ranks() -> Iterator[Pool]:
    """Two processes joined by gloo; ``two_ranks.run(function, *args)`` returns both results."""
    pool = Pool()
    yield pool
    pool.close()
