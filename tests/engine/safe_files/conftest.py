"""A saved state that has every part, for all tests of this folder to damage."""

from __future__ import annotations

import pytest

from tests.engine.safe_files.states import EVERYTHING, FILE, taught


@pytest.fixture(scope="package")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the state of a router that has every part that a state can have."""
    folder = tmp_path_factory.mktemp("whole")
    with taught(EVERYTHING) as router:
        router.save(folder)
    return (folder / FILE).read_bytes()
