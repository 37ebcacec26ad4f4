"""What is made over a router -> the router."""

from __future__ import annotations

from typing import Protocol

from mixllm_engine.router import Router


class HasRouter(Protocol):
    """A model, selector or middleware over a router."""

    @property
    def router(self) -> Router:
        """Who decides and learns."""
        ...


def router_of(given: Router | HasRouter) -> Router:
    """Return a router, or that of what is made over one."""
    return given if isinstance(given, Router) else given.router
