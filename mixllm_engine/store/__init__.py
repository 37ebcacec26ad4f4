"""Durable decisions, outcomes, feedback and learned state.

`open_store` turns what a user gives (nothing, a path, a database URL) into a store.
"""

from mixllm_engine.store.opening import open_store

__all__ = ["open_store"]
