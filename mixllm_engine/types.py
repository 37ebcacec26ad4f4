"""The values that cross borders: what a person gives to the router and what it gives back.

All are frozen and keyword-only; units stand in the names (``_usd``, ``_s``, ``_per_mtok`` = per million tokens).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, Literal, NamedTuple, Self, get_args

import numpy as np
import numpy.typing as npt
from pydantic import SecretStr

from mixllm_engine import redaction

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

Capability = Literal["tools", "json_schema", "images", "pdf", "audio"]
CAPABILITIES: tuple[Capability, ...] = get_args(Capability)

_LARGEST: Final = 1e15  # seconds or dollars of one call
_MOST_TOKENS: Final = 2**31 - 1  # far beyond any window, and what a column of PostgreSQL holds
_TOKENS: Final = frozenset({"prompt_tokens", "response_tokens", "cached_tokens"})


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One LLM that may answer: a model together with the parameters it is called with (an *arm* of the bandit).

    What is left ``None`` is looked up in LiteLLM's bundled model map when the candidate joins a pool; see
    `mixllm_engine.candidates.resolve`. A price that is known to neither is an error, never zero.

    Parameters
    ----------
    name : str
        How decisions, statistics and feedback refer to it. Unique within a pool.
    model : str
        LiteLLM's name of the model, such as ``"openai/gpt-4o-mini"``.
    api_base : str, optional
        Address of the endpoint, for self-hosted models.
    api_key : str or pydantic.SecretStr, optional
        Key for the endpoint; otherwise LiteLLM reads the provider's environment variable. Never stored, shown or
        pickled: another process reads the environment, or makes its candidates itself.
    input_usd_per_mtok, output_usd_per_mtok, cached_input_usd_per_mtok : float, optional
        Prices in US dollars per million tokens.
    context_window, max_output_tokens : int, optional
        Limits in tokens. The window counts the prompt and the answer.
    tokens_per_s, startup_s : float, optional
        Generation speed, and time until the first token. Learned from outcomes where they are not given.
    supports_tools, supports_json_schema, supports_images, supports_pdf, supports_audio : bool, optional
        What a query may ask of this candidate.
    params : mapping, optional
        Further call parameters, such as ``{"temperature": 0.2}``. Those that are named like secrets, such as
        ``aws_secret_access_key`` or ``extra_headers``, are treated as `api_key` is.

    Examples
    --------
    >>> local = Candidate(name="local", model="openai/smollm2", api_base="http://127.0.0.1:8101/v1",
    ...                   input_usd_per_mtok=0.02, output_usd_per_mtok=0.04, context_window=2048)
    >>> local.name
    'local'
    """

    name: str
    model: str
    api_base: str | None = None
    api_key: SecretStr | str | None = field(default=None, repr=False)
    input_usd_per_mtok: float | None = None
    output_usd_per_mtok: float | None = None
    cached_input_usd_per_mtok: float | None = None
    context_window: int | None = None
    max_output_tokens: int | None = None
    tokens_per_s: float | None = None
    startup_s: float | None = None
    supports_tools: bool | None = None
    supports_json_schema: bool | None = None
    supports_images: bool | None = None
    supports_pdf: bool | None = None
    supports_audio: bool | None = None
    params: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Wrap a plain key, so that no ``repr``, log or trace can show it."""
        if isinstance(self.api_key, str):
            object.__setattr__(self, "api_key", SecretStr(self.api_key))

    def secret_key(self) -> str | None:
        """Return the key in clear, for the one place that sends it."""
        return self.api_key.get_secret_value() if isinstance(self.api_key, SecretStr) else self.api_key

    def secrets(self) -> list[str]:
        """Return all texts that must not be shown: the key, and secret parameters."""
        key = self.secret_key()
        return [*([key] if key else []), *redaction.secrets_in(self.params)]

    def without_secrets(self) -> Self:
        """Return what may be shown, stored and pickled: no key, no parameter named like one, no user in the address."""
        address = None if self.api_base is None else redaction.without_password(self.api_base)
        return replace(self, api_key=None, api_base=address, params=redaction.without_secrets(self.params))

    def __repr__(self) -> str:
        """Show all but secrets."""
        shown = self.without_secrets()
        values = ((one.name, getattr(shown, one.name)) for one in fields(self) if one.repr)
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in values)})"

    def __getstate__(self) -> dict[str, Any]:
        """Leave secrets behind when pickled."""
        return dict(vars(self.without_secrets()))

    def __copy__(self) -> Self:
        """Stay as it is, with its secrets: a copy does not leave this process."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Copy the parameters; secrets come along, since a copy does not leave this process."""
        return replace(self, params=copy.deepcopy(dict(self.params), memo))

    def supports(self, capability: Capability) -> bool:
        """Tell whether the candidate is known to offer a capability."""
        return bool(getattr(self, f"supports_{capability}"))


@dataclass(frozen=True, kw_only=True)
class Query:
    """What is routed.

    Parameters
    ----------
    text : str, optional
        What the person asked: the text that is encoded. With `embedding` it is not needed, but its length, lines and
        digits are read; without it the query counts as one of usual length, in one line and without digits.
    embedding : array of shape (d,), optional
        The query's embedding by the router's own encoder; saves encoding it again.
    needs : iterable of str
        Capabilities that the answer needs: ``"tools"``, ``"json_schema"``, ``"images"``, ``"pdf"``, ``"audio"``.
    prompt_tokens : int, optional
        Tokens of the whole prompt that will be billed (system text, history, documents). Estimated from `text`
        where it is not given.
    max_output_tokens : int, optional
        Longest answer that the call will ask for; the context window must hold it too.
    in_tool_loop : bool
        The conversation waits for the answer to a tool's output: the candidate of its session must not change.
    """

    text: str | None = None
    embedding: npt.ArrayLike | None = field(default=None, repr=False)
    needs: Iterable[Capability] = ()
    prompt_tokens: int | None = None
    max_output_tokens: int | None = None
    in_tool_loop: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """How one candidate looked for one query.

    ``total = trade + alpha * uncertainty - beta * penalty + feedback + optimism``

    Attributes
    ----------
    quality : float
        Expected quality in [0, 1] (the paper's p-hat).
    response_tokens : float
        Expected length of the answer.
    cost_usd : float
        Expected cost of the call (c-hat).
    uncertainty : float
        Width of the quality estimate (s_unc before its weight).
    waiting_s : float
        Expected wait before this candidate starts (w).
    trade, penalty, total : float
        Parts of the score and the score itself (s_trade, s_pen, s; with feedback the paper's s').
    feedback : float
        What the policy learned from feedback adds: kappa s_df; 0 where it is off or knows nothing yet.
    optimism : float
        What a candidate is given in advance: a newcomer that has had its exploring draws, and the best on average where
        others seem to be a little better. 0 for the others, and for all inside a tool loop.
    eligible : bool
        Whether the candidate could be chosen.
    reason : str
        Why it could not, or why it was chosen against the score; empty otherwise.
    """

    quality: float
    response_tokens: float
    cost_usd: float
    uncertainty: float
    waiting_s: float
    trade: float
    penalty: float
    total: float
    feedback: float = 0.0
    optimism: float = 0.0
    eligible: bool = True
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The choice for one query.

    Attributes
    ----------
    decision_id : str
        128 random bits in hexadecimal: the reference for outcomes and feedback.
    candidate : str
        The chosen candidate.
    ranking : tuple of str
        All eligible candidates, the chosen one first: the order of fallback.
    propensity : float
        Probability with which this policy chose this candidate here.
    explored : bool
        Whether it was drawn to learn about it rather than for its score.
    scores : mapping of str to Score
        One entry per candidate of the pool.
    reason : str
        In a few words, why: ``"score"``, ``"exploration"``, ``"forced"``, ``"tool loop"``; beside another model
        ``"shadow"``, or ``"rollout"`` and ``"baseline"``, with the share and the digest of the rollout's settings.
    willingness_to_pay : float
        The lambda that was used.
    time_s : float
        When, in seconds since the epoch.
    uncertainty_weight, penalty_weight : float, optional
        alpha and beta of the scores; ``None`` in decisions of older stores.
    """

    decision_id: str
    candidate: str
    ranking: tuple[str, ...]
    propensity: float
    explored: bool
    scores: Mapping[str, Score] = field(repr=False)
    reason: str = "score"
    willingness_to_pay: float
    time_s: float
    uncertainty_weight: float | None = None
    penalty_weight: float | None = None


ErrorKind = Literal[
    "rate_limit",
    "timeout",
    "unavailable",
    "auth",
    "context_window",
    "bad_request",
    "not_found",
    "cancelled",
    "broken_stream",
    "other",
]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one attempt at one candidate brought. An error says something of availability, nothing of quality.

    Attributes
    ----------
    candidate : str
        Who was called.
    latency_s : float, optional
        Time from the request until the answer was complete.
    first_token_s : float, optional
        Time until the first token, on streams.
    prompt_tokens, response_tokens, cached_tokens : int, optional
        Usage as the provider reports it.
    cost_usd : float, optional
        Cost of the call; computed from usage and prices where it is not given.
    error : str, optional
        ``None`` for an answer, else the kind of the failure (`ErrorKind`). Any other text becomes ``"other"`` and is
        not kept: a provider's message may quote the prompt.
    """

    candidate: str
    latency_s: float | None = None
    first_token_s: float | None = None
    prompt_tokens: int | None = None
    response_tokens: int | None = None
    cached_tokens: int | None = None
    cost_usd: float | None = None
    error: ErrorKind | None = None

    def __post_init__(self) -> None:
        """Refuse numbers that no provider can mean, with a `ValueError`, and keep no text of a provider."""
        if not isinstance(self.candidate, str):
            raise ValueError(f"candidate={self.candidate!r} is no name of a candidate")
        if self.error is not None and (not isinstance(self.error, str) or self.error not in get_args(ErrorKind)):
            object.__setattr__(self, "error", "other")
        for name in ("latency_s", "first_token_s", "prompt_tokens", "response_tokens", "cached_tokens", "cost_usd"):
            value = getattr(self, name)
            if isinstance(value, np.number):
                object.__setattr__(self, name, value := value.item())
            largest = _MOST_TOKENS if name in _TOKENS else _LARGEST
            if value is not None and not (isinstance(value, int | float) and 0 <= value <= largest):
                raise ValueError(
                    f"{name}={value!r} is not a number of at least 0 and at most {largest:g}; leave it None if unknown"
                )
            if name in _TOKENS and value is not None and type(value) is not int:
                object.__setattr__(self, name, round(value))  # an estimate; SQLite would keep its fraction


FeedbackStatus = Literal["applied", "duplicate", "replaced", "queued"]


class Label(NamedTuple):
    """How good an answer was, in [0, 1], and what that judgement weighs beside one that is certain, in (0, 1]."""

    value: float
    weight: float


@dataclass(frozen=True, kw_only=True)
class FeedbackReceipt:
    """Proof that feedback is durable.

    Attributes
    ----------
    decision_id, key : str
        What it was credited to.
    candidate : str or None
        Who is credited with it; ``None`` where that is not known yet.
    reward : float
        The value that now stands.
    status : str
        ``"applied"`` the first time, ``"duplicate"`` for the same value again, ``"replaced"`` for another value.
        ``"queued"``: it is not durable yet, because the database can't be reached
        (`RouterConfig.storage`, ``feedback="queues"``).
    """

    decision_id: str
    candidate: str | None
    key: str
    reward: float
    status: FeedbackStatus
