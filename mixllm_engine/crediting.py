"""Feedback -> the decisions that it is for: what a reference leads to, and how those of a run share a reward."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal
from uuid import UUID

from mixllm_engine import observing
from mixllm_engine.candidates import is_plain
from mixllm_engine.errors import FeedbackError, UnknownDecisionError
from mixllm_engine.following import Follower
from mixllm_engine.learning.rewards import check_label
from mixllm_engine.store.base import Store, unknown_decision
from mixllm_engine.types import Decision, FeedbackReceipt, Label

Credit = Literal["last", "all", "discounted"]
"""Which decisions of a run a reward is for: the last, all alike, or all with half the weight for each step back."""

Reference = str | UUID | Decision
"""What leads to decisions: one of them, its id, or a name that was linked to it, such as the id of a run."""

_MESSAGE_PREFIX: Final = "mixllm-"
DECISION_ID: Final = re.compile("[0-9a-f]{32}")
# What a decision weighs beside the one after it.
_RATES: Final[Mapping[str, float]] = {"last": 0.0, "all": 1.0, "discounted": 0.5}
# What has room in a store.
_LONGEST_KEY: Final = 128
_LONGEST_NAME: Final = 256


def led_to(store: Store, ref: Reference | Sequence[Reference]) -> list[str]:
    """Return the ids of the decisions that a reference leads to, in the order in which they were made.

    A name that leads nowhere is returned as it is, for the store to say that it does not know it.
    """
    if isinstance(ref, Decision):
        return [ref.decision_id]
    if isinstance(ref, str | UUID):
        name = str(ref)
        if not is_plain(name):
            raise UnknownDecisionError(unknown_decision(name))
        decision_id = name.removeprefix(_MESSAGE_PREFIX)
        return [decision_id] if DECISION_ID.fullmatch(decision_id) else list(store.linked(name)) or [name]
    try:
        refs: list[Any] = list(ref)
    except TypeError:  # also by what only seems to be a list, such as an array of no dimension
        refs = [None]
    if not all(isinstance(one, str | UUID | Decision) for one in refs):
        raise FeedbackError(f"{repr(ref)[:80]} is no decision, id, name or list of these: take them from answers")
    return list(dict.fromkeys(found for one in refs for found in led_to(store, one)))


def check_id(decision_id: str) -> str:
    """Return what may be the id of a decision, or raise `UnknownDecisionError` before a database refuses it."""
    if not is_plain(decision_id):
        raise UnknownDecisionError(unknown_decision(decision_id))
    return decision_id


def shares(decisions: int, credit: Credit) -> list[float]:
    """Return what a reward weighs for each decision of a run, in the order in which they were made.

    Examples
    --------
    >>> shares(3, "discounted"), shares(3, "last")
    ([0.25, 0.5, 1.0], [0.0, 0.0, 1.0])
    """
    if not isinstance(credit, str) or credit not in _RATES:
        raise FeedbackError(f"credit={credit!r} is none of {', '.join(map(repr, _RATES))}")
    return [_RATES[credit] ** later for later in reversed(range(decisions))]


def give(
    store: Store, ref: Reference | Sequence[Reference], key: str, label: Label, credit: Credit, time_s: float
) -> FeedbackReceipt:
    """Keep feedback for every decision that it is for; returns the receipt of the last one.

    Each receipt is durable on its own: after a crash in between, the same feedback again completes what is missing.

    Raises
    ------
    FeedbackError
        If `ref` is an empty sequence, `credit` unknown, or `key` no text of a reasonable length.
    UnknownDecisionError
        If a reference leads to no decision in the store.
    """
    if not is_plain(key) or not 1 <= len(key) <= _LONGEST_KEY:
        raise FeedbackError(f"key={key!r} must be a text of 1 to {_LONGEST_KEY} characters that says who judges")
    found = led_to(store, ref)
    if not found:
        raise FeedbackError("no decision was given: nothing was decided in the block or run that this feedback is for")
    for decision_id, share in zip(found, shares(len(found), credit), strict=True):
        if share:
            part = Label(label.value, label.weight * share)
            receipt = store.add_feedback(decision_id, key, part, time_s)
    return receipt


class Credited:
    """The part of a router that takes feedback."""

    _store: Store
    _clock: Callable[[], float]
    _follower: Follower

    def link(self, decision_id: str, *names: str) -> None:
        """Let names, such as the ids of a framework's runs, lead feedback to a decision; one name may lead to several.

        Raises
        ------
        UnknownDecisionError
            If the store holds no such decision.
        """
        for name in names:
            if not is_plain(name) or not 1 <= len(name) <= _LONGEST_NAME:
                raise FeedbackError(f"name {str(name)[:40]!r} must be a text of 1 to {_LONGEST_NAME} characters")
        self._store.link(check_id(decision_id), names)

    def linked(self, *, within_s: float) -> list[str]:
        """Return the names that lead to decisions of the last seconds, for whoever collects feedback on them."""
        return list(self._store.linked_since(self._clock() - within_s))

    def feedback(
        self,
        ref: Reference | Sequence[Reference],
        reward: float,
        key: str = "user",
        *,
        weight: float = 1.0,
        credit: Credit = "last",
    ) -> FeedbackReceipt:
        """Learn how good an answer was.

        Parameters
        ----------
        ref : str, UUID, Decision, or sequence of these
            The decision, its id, the id of the message that it led to (``"mixllm-<decision id>"``), or a name that was
            linked to it. Several decisions are those of one run, in their order.
        reward : float
            Quality of the answer in [0, 1].
        key : str
            Who judges. The same key again replaces the value; several keys are averaged by their weights.
        weight : float
            What the judgement weighs beside one that is certain, in (0, 1].
        credit : str
            Where there are several decisions: whether the reward is for the ``"last"``, for ``"all"``, or
            ``"discounted"``: for all, with half the weight for each step back.

        Returns
        -------
        FeedbackReceipt
            Of the last decision. The feedback is durable when this returns.

        Raises
        ------
        FeedbackError
            If the reward is not a number in [0, 1], the weight not in (0, 1], or there is no decision.
        UnknownDecisionError
            If the store holds no such decision.
        """
        receipt = give(self._store, ref, key, check_label(reward, weight), credit, self._clock())
        observing.credited(receipt)
        self._follower.try_to_bring_in()  # if not now, then later: it is durable already
        return receipt
