"""Where the tests of this folder keep their logs: in a file, and in a server behind a password."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.engine.secrets.hidden import PASSWORD


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "log.db")
    url = sa.make_url(request.getfixturevalue("postgres_url")).set(password=PASSWORD)
    return url.render_as_string(hide_password=False)
