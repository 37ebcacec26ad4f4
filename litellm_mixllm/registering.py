"""Put routers into LiteLLM as models, and take them out again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from mixllm_engine import ConfigError, Router
from mixllm_engine.calling.litellm_client import load_litellm

if TYPE_CHECKING:
    from litellm_mixllm.provider import MixLLMProvider

_lock = threading.Lock()
_providers: dict[str, _Provider] = {}


class Registered:
    """A router that LiteLLM knows as a model; a context manager that takes it out again.

    Attributes
    ----------
    model : str
        What to call it in LiteLLM, such as ``"mixllm/auto"``.
    """

    def __init__(self, model: str, unregister: Callable[[], None]) -> None:
        self.model = model
        self._unregister = unregister

    def unregister(self) -> None:
        """Take the router out; what was there before is there again. The second time it does nothing."""
        with _lock:
            self._unregister()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.unregister()


def register(router: Router, name: str = "mixllm", *, model: str = "auto") -> Registered:
    """Let LiteLLM call a router as a model, ``"<name>/<model>"``.

    Several routers go by several models. A model that is registered again answers by its latest router; when that is
    taken out, by the one before.

    Parameters
    ----------
    router : Router
        Who decides and learns.
    name : str
        The provider's name.
    model : str
        The model's name.

    Returns
    -------
    Registered
        Has the model's whole name and takes it out again. Who does not need that may drop it.

    Raises
    ------
    ConfigError
        If the provider's name is one of LiteLLM's own, or one of the names is empty.
    """
    litellm = load_litellm()
    _check(litellm, name, model)
    with _lock:
        provider = _providers.get(name) or _Provider(litellm, name)
        provider.put_in_place()
        entry = provider.add(model, router)
    return Registered(f"{name}/{model}", lambda: provider.drop(model, entry))


def _check(litellm: Any, name: str, model: str) -> None:
    if not name or "/" in name or not model:
        raise ConfigError(f"name={name!r} and model={model!r} must be the two parts of a name such as mixllm/auto")
    if name in {str(getattr(known, "value", known)) for known in litellm.LlmProviders}:
        raise ConfigError(f"{name!r} is a provider of LiteLLM's own; choose another name, such as 'mixllm'")


class _Provider:
    """One provider's name in LiteLLM, while a router goes by it. The caller holds the lock."""

    def __init__(self, litellm: Any, name: str) -> None:
        from litellm_mixllm.provider import MixLLMProvider

        self._litellm, self._name = litellm, name
        self._stacks: dict[str, list[list[Router]]] = {}
        self._handler: MixLLMProvider = MixLLMProvider({})
        self._item = {"provider": name, "custom_handler": self._handler}
        self._lists = [listed for listed in self._name_lists() if name not in listed]

    def put_in_place(self) -> None:
        """Be the provider of this name; whoever was comes back afterwards."""
        _providers[self._name] = self
        if not any(item is self._item for item in self._litellm.custom_provider_map):
            self._litellm.custom_provider_map.append(self._item)
        for listed in self._name_lists():
            if self._name not in listed:
                listed.append(self._name)

    def add(self, model: str, router: Router) -> list[Router]:
        """Let a router answer for a model."""
        entry = [router]  # of its own identity: the same router may be registered twice
        self._stacks.setdefault(model, []).append(entry)
        self._publish()
        return entry

    def drop(self, model: str, entry: list[Router]) -> None:
        """Take a router out, and the provider with the last one."""
        stack = self._stacks.get(model, [])
        stack[:] = [one for one in stack if one is not entry]
        if not stack:
            self._stacks.pop(model, None)
        self._publish()
        if not self._stacks and _providers.get(self._name) is self:
            del _providers[self._name]
            self._take_out()

    def _publish(self) -> None:
        # A new mapping each time: calls under way read the old one.
        self._handler.routers = {model: stack[-1][0] for model, stack in self._stacks.items()}

    def _take_out(self) -> None:
        items = self._litellm.custom_provider_map
        items[:] = [item for item in items if item is not self._item]
        for listed in self._lists:
            if self._name in listed:
                listed.remove(self._name)

    def _name_lists(self) -> list[list[str]]:
        # LiteLLM fills these from the map, but only in calls that come from outside of it.
        return [self._litellm.provider_list, self._litellm._custom_providers]
