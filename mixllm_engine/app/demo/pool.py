"""Who may answer in the demonstration: the LLMs with recorded outcomes, and those that a visitor may add."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from mixllm_engine.calling.litellm_client import require_key
from mixllm_engine.candidates import resolve
from mixllm_engine.errors import MissingKeyError, UnknownPriceError
from mixllm_engine.types import Candidate

# List prices in US dollars per million tokens, prompt and answer, as the package with the recorded rows states them.
RECORDED: Final = (
    ("meta-llama/llama-3.1-8b-instruct", 0.1, 0.1),
    ("mistralai/mistral-large-2512", 0.5, 1.5),
    ("google/gemini-2.5-pro", 1.25, 10.0),
)
_OFFERED: Final = (
    "openai/gpt-4o-mini",
    "openai/gpt-4o",
    "openai/gpt-4.1-nano",
    "anthropic/claude-sonnet-4-5",
    "gemini/gemini-2.5-flash",
    "mistral/mistral-small-latest",
    "deepseek/deepseek-chat",
)


def recorded_candidates() -> list[Candidate]:
    """Return the LLMs whose outcomes are recorded; through OpenRouter they answer really, where its key is set."""
    return [
        Candidate(name=name, model=f"openrouter/{name}", input_usd_per_mtok=prompt, output_usd_per_mtok=answer)
        for name, prompt, answer in RECORDED
    ]


def offered() -> list[str]:
    """Return LiteLLM's names of some well-known models, as far as their prices are known."""
    return [name for name in _OFFERED if _has_price(name)]


def answering(candidates: Iterable[Candidate]) -> tuple[str, ...]:
    """Return the names of those who can really answer, because the key of their provider is set."""
    return tuple(candidate.name for candidate in candidates if _has_key(candidate))


def dearest(candidates: Iterable[Candidate]) -> str:
    """Return the name of the candidate with the highest list price of its answers."""
    return max(
        candidates, key=lambda one: (one.output_usd_per_mtok or 0.0, one.input_usd_per_mtok or 0.0, one.name)
    ).name


def _has_price(name: str) -> bool:
    try:
        resolve(name)
    except UnknownPriceError:
        return False
    return True


def _has_key(candidate: Candidate) -> bool:
    try:
        require_key(candidate)
    except MissingKeyError:
        return False
    return True
