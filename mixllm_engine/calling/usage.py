"""What a provider says that a call used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

# No call has more tokens: what claims to is no count.
_MOST: Final = 10**9


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Tokens of one call; ``None`` = the provider did not say."""

    prompt_tokens: int | None = None
    response_tokens: int | None = None
    cached_tokens: int | None = None

    @classmethod
    def from_openai(cls, usage: Any) -> Usage:
        """Read a usage object or mapping in OpenAI's form.

        Examples
        --------
        >>> Usage.from_openai({"prompt_tokens": 7, "completion_tokens": 2}).response_tokens
        2
        """
        if usage is None:
            return cls()
        prompt, response = _count(_get(usage, "prompt_tokens")), _count(_get(usage, "completion_tokens"))
        if not prompt and not response:  # LiteLLM writes zeros where the provider said nothing
            return cls()
        details = _get(usage, "prompt_tokens_details")
        return cls(
            prompt_tokens=prompt,
            response_tokens=response,
            cached_tokens=_count(_get(details, "cached_tokens")) if details is not None else None,
        )


def _get(source: Any, name: str) -> Any:
    return source.get(name) if isinstance(source, Mapping) else getattr(source, name, None)


def _count(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and 0 <= value <= _MOST else None
