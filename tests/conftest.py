"""Settings for all tests: nothing may reach beyond the loopback address, and no connection is left open."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator

import pytest

from tests import litellm_clients

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what is to run in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(autouse=True)
def _closed_clients(request: pytest.FixtureRequest) -> Iterator[None]:
    """Close the clients that a test made LiteLLM keep."""
    in_a_loop = request.node.get_closest_marker("asyncio") is not None
    if in_a_loop:
        request.getfixturevalue("_closed_within_the_loop")
    yield
    if not in_a_loop and (cached := litellm_clients.take_cached()):
        litellm_clients.run(litellm_clients.close(cached))


@pytest.fixture
async def _closed_within_the_loop() -> AsyncIterator[None]:
    """Close the clients of an async test while its event loop still runs."""
    yield
    await litellm_clients.close(litellm_clients.take_cached())
