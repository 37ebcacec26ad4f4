"""Systems that decide, as contenders."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from mixllm_engine.encoding.encoder import Encoder
from mixllm_engine.errors import EncoderError
from mixllm_engine.evaluation.bench.inputs import QUERIES, REWARDS, candidates, outcomes, prompts
from mixllm_engine.evaluation.bench.timing import Contender
from mixllm_engine.router import Router
from mixllm_engine.types import Query


class Decider(Protocol):
    """A system that decides on queries which are encoded already, and learns."""

    note: str

    def decide(self, serial: int) -> object:
        """Choose for one query; returns the reference that `learn` takes."""
        ...

    def learn(self, reference: Any, reward: float) -> None:
        """Learn how good that choice was."""
        ...


class Reader(Protocol):
    """A system that decides on texts."""

    note: str

    def decide(self, text: str) -> object:
        """Choose for one text."""
        ...


class MixLLMDecider:
    """A router, by default with a store in memory.

    Parameters
    ----------
    names : sequence of str
        The candidates.
    encoder : Encoder
        Encodes the queries, before anything is timed.
    fitted : bool
        Whether each candidate has more labels than it needs to be no newcomer any more, or none.
    store : None, path or URL
        Where decisions and feedback are kept.
    """

    def __init__(
        self, names: Sequence[str], encoder: Encoder, *, fitted: bool, store: str | Path | None = None
    ) -> None:
        self._router = Router(candidates(names), encoder=encoder, store=store, seed=0)
        texts = prompts(QUERIES)
        self._queries = [Query(embedding=embedding, prompt_tokens=25) for embedding in encoder.encode(texts)]
        if fitted:
            self._router.fit(outcomes(texts, names), progress=False)
        self.note = f"from the {encoder.dimension} numbers of an embedding"

    def decide(self, serial: int) -> str:
        """Choose for one embedding."""
        return self._router.decide(self._queries[serial % len(self._queries)]).decision_id

    def learn(self, reference: str, reward: float) -> None:
        """Give feedback."""
        self._router.feedback(reference, reward)

    def close(self) -> None:
        """Let go of the store."""
        self._router.close()


class MixLLMText:
    """A router that is asked with texts."""

    note = "packaged MiniLM, int8, first 128 tokens"

    def __init__(self, names: Sequence[str], encoder: Encoder) -> None:
        self._router = Router(candidates(names), encoder=encoder, seed=0)
        self._router.decide("Which of you should answer?")  # loads everything

    def decide(self, text: str) -> object:
        """Choose for one text."""
        return self._router.decide(text)


def deciding(name: str, make: Callable[[], Decider]) -> tuple[Contender, Contender]:
    """Return a system as a contender in deciding and in learning; it may turn out not to be there."""
    try:
        system = make()
    except (ImportError, EncoderError) as missing:
        absent = Contender(name=name, step=None, note=str(missing))
        return absent, absent
    references: deque[Any] = deque()

    def prepare(serials: range) -> None:
        references.extend(system.decide(serial) for serial in serials)

    def learn(serial: int) -> None:
        system.learn(references.popleft(), REWARDS[serial % len(REWARDS)])

    return (
        Contender(name=name, step=system.decide, note=system.note),
        Contender(name=name, step=learn, prepare=prepare),
    )


def reading(name: str, make: Callable[[], Reader]) -> Callable[[Sequence[str]], Contender]:
    """Return a system, which may turn out not to be there, as a contender in deciding on texts that are yet to come."""
    try:
        system = make()
    except (ImportError, EncoderError) as missing:
        absent = Contender(name=name, step=None, note=str(missing))
        return lambda texts: absent
    return lambda texts: Contender(name=name, step=lambda serial: system.decide(texts[serial]), note=system.note)
