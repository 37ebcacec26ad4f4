"""Where the tests of the engine keep their logs: in memory, in a file, and in a server that all of them share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from tests.engine import postgres

# They are no tests, but what they assert should show its values all the same.
pytest.register_assert_rewrite("tests.engine.fuzz", "tests.engine.rule_workers")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[sa.URL]:
    with postgres.postgres_server() as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server: sa.URL) -> Iterator[str]:
    with postgres.empty_schema(postgres_server) as url:
        yield url
