"""Feed the recorded queries of a pool to a real router, as if they arrived one after the other.

The router is used as anybody would: `Router.decide`, then `Router.observe` with what the chosen answer took, then
`Router.feedback`. It never sees what the other candidates would have answered, unless a bound is asked for that no
router can reach.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from mixllm_engine.config import RouterConfig
from mixllm_engine.evaluation.events import Event, World
from mixllm_engine.evaluation.pools import FullFeedback, whole
from mixllm_engine.evaluation.workbench import Fitted
from mixllm_engine.types import Decision, Matrix, Outcome, Vector

Feedback = Literal["none", "refined", "binary", "all"]
# The paper's stream: 100 queries in 10 s.
_SECONDS_PER_QUERY = 0.1
# From this quality on a user is satisfied, as far as binary feedback goes.
_SATISFIED = 0.5


class Thumbs(NamedTuple):
    """What binary feedback counts as, where an answer was bad and where it was good."""

    down: float
    up: float

    @classmethod
    def worth(cls, quality: Matrix) -> Thumbs:
        """Return what graded answers on either side of a half are worth on average; 0 and 1 where there are none.

        Examples
        --------
        >>> Thumbs.worth(np.array([[0.2, 0.9], [0.4, 0.8]]))
        Thumbs(down=0.3..., up=0.85...)
        """
        up = quality >= _SATISFIED
        return cls(*(float(quality[side].mean()) if side.any() else usual for side, usual in ((~up, 0.0), (up, 1.0))))


PLAIN_THUMBS: Final = Thumbs(0.0, 1.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Replay:
    """What a router did on a stream of n queries.

    Attributes
    ----------
    names : tuple of str
        The candidates.
    chosen : array of shape (n,), int
        Who answered, as a place in `names`.
    explored : array of shape (n,), bool
        Whether it was drawn to learn about it.
    quality : array of shape (n,)
        How good the answers were.
    cost_usd : array of shape (n,)
        What they cost.
    """

    names: tuple[str, ...]
    chosen: npt.NDArray[np.intp]
    explored: npt.NDArray[np.bool_]
    quality: Vector
    cost_usd: Vector

    @property
    def point(self) -> tuple[float, float]:
        """Mean cost in dollars, and mean quality."""
        return float(self.cost_usd.mean()), float(self.quality.mean())

    def utility(self, willingness_to_pay: float, reference_cost_usd: float) -> float:
        """Return the mean of lambda/(lambda+1) q - 1/(lambda+1) c, with c in units of the reference cost."""
        cost, quality = self.point
        return (willingness_to_pay * quality - cost / reference_cost_usd) / (willingness_to_pay + 1.0)

    def since(self, row: int) -> Replay:
        """Return the part of the stream from a row on."""
        parts: dict[str, Any] = {
            field: getattr(self, field)[row:] for field in ("chosen", "explored", "quality", "cost_usd")
        }
        return Replay(names=self.names, **parts)

    def takes(self, name: str) -> npt.NDArray[np.bool_]:
        """Tell for every query whether a candidate answered it, shape (n,)."""
        taken: npt.NDArray[np.bool_] = self.chosen == self.names.index(name)
        return taken


def replay(
    fitted: Fitted,
    stream: FullFeedback,
    *,
    willingness_to_pay: float,
    feedback: Feedback = "none",
    events: Sequence[Event] = (),
    max_wait_s: float = math.inf,
    seed: int = 0,
    thumbs: Thumbs = PLAIN_THUMBS,
) -> Replay:
    """Replay a stream.

    Parameters
    ----------
    fitted : Fitted
        The router; it goes on learning, so take a fresh one for each replay.
    stream : FullFeedback
        The queries in the order of their arrival.
    willingness_to_pay : float
        lambda, in the unit that the router's configuration has; see `in_units_of`.
    feedback : str
        What comes back: nothing, or the recorded tokens and cost together with the recorded quality (``"refined"``) or
        with a thumb, up where that is at least 0.5 (``"binary"``). ``"all"`` is refined feedback to every candidate:
        each of the others is made to answer too, behind the decision and without part in the result. Nobody has that
        in service; it is the bound of what can be learned online.
    events : sequence of Event
        What happens in mid-stream.
    max_wait_s : float
        tau; any wait will do by default, since pools have no latencies.
    seed : int
        Chance in events.
    thumbs : Thumbs
        What a thumb counts as.
    """
    world = World(
        router=fitted.router,
        names=stream.names,
        candidates=dict(fitted.candidates),
        quality=stream.quality.copy(),
        cost_usd=stream.cost_usd.copy(),
        rng=np.random.default_rng(seed),
    )
    due = sorted(events, key=lambda event: event.at)
    chosen, explored = np.empty(len(stream), np.intp), np.empty(len(stream), np.bool_)
    for row in range(len(stream)):
        while due and due[0].at <= row:
            due.pop(0).happen(world)
        fitted.clock.advance(_SECONDS_PER_QUERY)
        query = stream.query(row)
        decide = partial(world.router.decide, query, willingness_to_pay=willingness_to_pay, max_wait_s=max_wait_s)
        decision = decide()
        chosen[row], explored[row] = stream.column(decision.candidate), decision.explored
        if feedback != "none":
            _return(world, stream, row, decision, thumbs if feedback == "binary" else None)
        if feedback == "all":
            others = [other.name for other in world.router.candidates if other.name != decision.candidate]
            for other in others:
                _return(world, stream, row, decide(force=other), None)
    rows = np.arange(len(stream))
    return Replay(
        names=stream.names,
        chosen=chosen,
        explored=explored,
        quality=world.quality[rows, chosen],
        cost_usd=world.cost_usd[rows, chosen],
    )


def _return(world: World, stream: FullFeedback, row: int, decision: Decision, thumbs: Thumbs | None) -> None:
    column = stream.column(decision.candidate)
    outcome = Outcome(
        candidate=decision.candidate,
        prompt_tokens=whole(float(stream.prompt_tokens[row])),
        response_tokens=whole(float(stream.response_tokens[row, column])),
        cost_usd=float(world.cost_usd[row, column]),
    )
    world.router.observe(decision.decision_id, outcome)
    quality = float(world.quality[row, column])
    world.router.feedback(decision, quality if thumbs is None else thumbs[quality >= _SATISFIED])


def in_units_of(config: RouterConfig, willingness_to_pay: float, reference_cost_usd: float) -> float:
    """Turn lambda on the pool's scale into the unit that a configuration has: the paper's score is in dollars."""
    return willingness_to_pay * reference_cost_usd if config.decision.cost_scale == "usd" else willingness_to_pay
