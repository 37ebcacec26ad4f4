"""Who answers where no key is set: a small language model on this machine, always called what it is.

It is no candidate of the visitor's pool. It has a router of its own, so that what is said of its answers is learned of
it and of nobody else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mixllm_engine.calling.local_server import LocalModelError, LocalModelServer
from mixllm_engine.encoding.encoder import Encoder
from mixllm_engine.router import Router
from mixllm_engine.types import Candidate

NAME: Final = "SmolLM2-135M (local stand-in)"
_MODEL: Final = "smollm2"


class StandIn:
    """The local model, once for all visitors.

    Attributes
    ----------
    missing : str
        Why there is none, in a sentence with the command that installs it; empty where it answers.
    """

    def __init__(self) -> None:
        self.missing = "The local model was not started."
        self._server: LocalModelServer | None = None
        self._address: str | None = None

    def start(self) -> None:
        """Start the model; where that is not possible, `missing` says why."""
        server = LocalModelServer(aliases=(_MODEL,))
        try:
            server.start()
        except LocalModelError as error:
            self.missing = f"Nobody can answer here: {error}."
            return
        self._server, self._address, self.missing = server, server.base_url, ""

    def at(self, address: str) -> None:
        """Use a server that runs already."""
        self._address, self.missing = address, ""

    def close(self) -> None:
        """Stop the model."""
        if self._server is not None:
            self._server.close()

    def router(self, encoder: Encoder, clock: Callable[[], float]) -> Router:
        """Return a new router with nobody else in it."""
        stand_in = Candidate(
            name=NAME,
            model=f"openai/{_MODEL}",
            api_base=self._address,
            input_usd_per_mtok=0.0,
            output_usd_per_mtok=0.0,
            context_window=2048,
            params={"temperature": 0.3, "max_tokens": 128, "frequency_penalty": 0.5},
        )
        return Router([stand_in], encoder=encoder, seed=0, clock=clock)
