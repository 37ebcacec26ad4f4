"""Who may answer in the demonstration: the LLMs with recorded outcomes, and those that a visitor may add."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from mixllm_engine.calling.litellm_client import require_key
from mixllm_engine.candidates import resolve
from mixllm_engine.errors import CandidateError, MissingKeyError, UnknownPriceError
from mixllm_engine.router import Router
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


def newcomer(name: str) -> Candidate:
    """Return the candidate of a name that a visitor chose, or raise `CandidateError`."""
    try:
        return resolve(Candidate(name=name, model=name))
    except UnknownPriceError as error:
        raise CandidateError(f"LiteLLM knows no price of {name!r}; choose one of the list") from error


def dearest(router: Router, texts: Sequence[str]) -> str:
    """Return who is expected to cost most on average: a low price may come with long answers."""
    made = router.predict(texts)
    return made.candidates[int(made.cost_usd.mean(axis=0).argmax())]


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
