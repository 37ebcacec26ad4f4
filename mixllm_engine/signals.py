"""What goes wrong behind an answer, as feedback on it: which signals there are, what each weighs, whose fault it is.

A framework's adapter watches its runs (LangChain) or spans (LlamaIndex), and says here which decisions were made in
them and what happened. A signal is for the last decision in the innermost run that made any, once per decision, under
the key ``"auto:<signal>"``: a person's judgement stands beside it and outweighs it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

from mixllm_engine.errors import ConfigError, UnknownDecisionError
from mixllm_engine.tracking import Teachable

Signal = Literal["parser_error", "validation_error", "tool_error", "retry", "regenerate"]
"""What may go wrong: an answer that can't be read, or that does not fit its schema or tool; a tool that fails; a step
that is tried again; a person who asks for another answer."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What a signal says of the answer behind it: a reward in [0, 1], and its weight in (0, 1]."""

    reward: float = 0.0
    weight: float


RULES: Final[Mapping[Signal, Rule]] = {
    "parser_error": Rule(weight=0.5),
    "validation_error": Rule(weight=0.5),
    "tool_error": Rule(weight=0.25),  # it may be the tool's own fault
    "retry": Rule(weight=0.25),
    "regenerate": Rule(weight=0.5),
}
"""What the signals weigh where nothing else is said."""

# Decisions of runs whose end nobody reports make room at last.
_MOST_TOLD: Final = 10_000

Rules = Mapping[Signal, Rule | float | Literal["off"]]
"""What to say instead: a rule, only its weight, or that a signal is ignored."""


def checked(rules: Rules) -> dict[Signal, Rule]:
    """Return `RULES` with some of them replaced, or raise `ConfigError`.

    Examples
    --------
    >>> sorted(checked({"tool_error": "off", "retry": 0.1}))
    ['parser_error', 'regenerate', 'retry', 'validation_error']
    """
    made = dict(RULES)
    for signal, said in rules.items():
        if signal not in RULES:
            raise ConfigError(f"no signal is called {signal!r}; known are {', '.join(get_args(Signal))}")
        if said == "off":
            del made[signal]
        elif isinstance(said, Rule | float | int) and not isinstance(said, bool):
            made[signal] = said if isinstance(said, Rule) else Rule(weight=float(said))
        else:
            raise ConfigError(f"the rule for {signal!r} must be a Rule, a weight, or 'off', not {said!r}")
    for signal, rule in made.items():
        if not (0.0 <= rule.reward <= 1.0 and 0.0 < rule.weight <= 1.0):
            raise ConfigError(f"the rule for {signal!r} needs a reward in [0, 1] and a weight in (0, 1], not {rule}")
    return made


class SignalLog:
    """The decisions in every run that is open, and what was told of them. Safe to use from several threads.

    Parameters
    ----------
    router : Teachable
        Who learns.
    rules : mapping
        See `Rules`.

    Examples
    --------
    >>> from mixllm_engine.testing import tiny_router
    >>> router = tiny_router()
    >>> log = SignalLog(router, {})
    >>> log.made(router.decide("hello").decision_id, ["parser", "chain"])
    >>> log.tell("parser_error", ["parser", "chain"])
    >>> log.tell("parser_error", ["chain"])
    >>> router.stats()["feedback_applied"]
    1
    """

    def __init__(self, router: Teachable, rules: Rules) -> None:
        self.rules = checked(rules)
        self._router = router
        self._lock = threading.Lock()
        self._made: dict[Hashable, list[str]] = {}
        self._told: OrderedDict[str, set[Signal]] = OrderedDict()

    def made(self, decision_id: str, around: Iterable[Hashable]) -> None:
        """Note a decision in all runs around it."""
        with self._lock:
            for run in around:
                self._made.setdefault(run, []).append(decision_id)

    def tell(self, signal: Signal, around: Sequence[Hashable], *, unless_any: bool = False) -> None:
        """Give feedback on the last decision in the first of some runs, from the inside out, that made any.

        Parameters
        ----------
        signal : str
            What happened.
        around : sequence
            The run in which it happened, and those around it.
        unless_any : bool
            Say nothing if any signal was told of that decision: it would be the same mistake, seen again.
        """
        with self._lock:
            made = next((self._made[run] for run in around if self._made.get(run)), None)
            known = bool(made and self._told.get(made[-1]))
        if made and not (unless_any and known):
            self.blame(signal, made[-1])

    def blame(self, signal: Signal, decision_id: str) -> None:
        """Give feedback on a decision."""
        rule = self.rules.get(signal)
        with self._lock:
            told = self._told.setdefault(decision_id, set())
            if rule is None or signal in told:
                return
            told.add(signal)
            if len(self._told) > _MOST_TOLD:
                self._told.popitem(last=False)
        try:
            self._router.feedback(decision_id, rule.reward, f"auto:{signal}", weight=rule.weight)
        except UnknownDecisionError:
            return  # another router's, or an answer from a cache that outlived the log of its decision

    def close(self, run: Hashable, *, is_root: bool) -> None:
        """Forget a run that is over."""
        with self._lock:
            made = self._made.pop(run, ())
            if is_root:
                for decision_id in made:
                    self._told.pop(decision_id, None)
