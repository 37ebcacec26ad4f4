"""What all visitors share: a router that was fitted once, the recorded rows, and the local model.

Each visitor gets a router of their own, loaded from the fitted state, which takes milliseconds: what one teaches, adds
or removes changes nothing for another.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import numpy.typing as npt

from mixllm_engine.app.demo.pool import recorded_candidates
from mixllm_engine.app.demo.samples import Samples, draw
from mixllm_engine.app.demo.standin import StandIn
from mixllm_engine.encoding.encoder import Embeddings, Encoder
from mixllm_engine.evaluation.pools import FullFeedback
from mixllm_engine.router import Router
from mixllm_engine.types import Candidate

Vector32 = npt.NDArray[np.float32]

# So few that a visitor's own judgements show: a label beside thousands of others moves nothing that can be seen.
_LEARNED_ROWS: Final = 300
_HELD_OUT_ROWS: Final = 240
_LATEST: Final = 64


class RowsEncoder:
    """An encoder that looks up the rows of the curve, and the latest texts that visitors asked.

    Parameters
    ----------
    encoder : Encoder
        Who encodes.
    texts : sequence of str
        What is encoded now, once.
    """

    def __init__(self, encoder: Encoder, texts: Sequence[str]) -> None:
        self._encoder = encoder
        self._known: dict[str, Vector32] = dict(zip(texts, encoder.encode(texts), strict=True))
        self._tokens = {text: encoder.count_tokens(text) for text in self._known}
        self._latest: OrderedDict[str, Vector32] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def fingerprint(self) -> str:
        """The encoder's own."""
        return self._encoder.fingerprint

    @property
    def dimension(self) -> int:
        """Length of an embedding."""
        return self._encoder.dimension

    def encode(self, texts: Sequence[str]) -> Embeddings:
        """Return the embeddings in the order of the texts, shape (n, d)."""
        rows = [self._encoded(text) for text in texts]
        return np.stack(rows) if rows else np.empty((0, self.dimension), np.float32)

    def _encoded(self, text: str) -> Vector32:
        if text in self._known:
            return self._known[text]
        with self._lock:
            found = self._latest.get(text)
        if found is None:
            found = np.asarray(self._encoder.encode([text])[0], dtype=np.float32)
        with self._lock:
            self._latest[text] = found
            self._latest.move_to_end(text)
            if len(self._latest) > _LATEST:
                self._latest.popitem(last=False)
        return found

    def count_tokens(self, text: str) -> int:
        """Count the tokens of a text."""
        known = self._tokens.get(text)
        return self._encoder.count_tokens(text) if known is None else known


class Stage:
    """What a visit begins with; made by `Stage.of`.

    Attributes
    ----------
    samples : Samples
        Queries with recorded outcomes.
    held_out : FullFeedback
        Rows for the cost-quality curve; neither learned from nor shown as samples.
    stand_in : StandIn
        Who answers where no key is set.
    encoder : Encoder
        Of all routers.
    clock : callable
        Seconds since the epoch.
    """

    def __init__(
        self,
        folder: TemporaryDirectory[str],
        samples: Samples,
        held_out: FullFeedback,
        stand_in: StandIn,
        encoder: Encoder,
        clock: Callable[[], float],
    ) -> None:
        self.samples = samples
        self.held_out = held_out
        self.stand_in = stand_in
        self.encoder = encoder
        self.clock = clock
        self._folder = folder

    @classmethod
    def of(
        cls,
        learned: FullFeedback,
        unseen: FullFeedback,
        candidates: Sequence[Candidate],
        *,
        encoder: Encoder,
        stand_in: StandIn,
        seed: int = 0,
        clock: Callable[[], float] = time.time,
        progress: bool = False,
    ) -> Stage:
        """Fit a router on some recorded rows, and draw samples from others.

        Parameters
        ----------
        learned, unseen : FullFeedback
            Recorded rows to learn from, and others for samples and the curve.
        candidates : sequence of Candidate
            The LLMs of both.
        encoder : Encoder
            Text to vectors.
        stand_in : StandIn
            Who answers where no key is set; it may be started later.
        seed : int
            Which rows are taken.
        clock : callable
            Seconds since the epoch.
        progress : bool
            Show a progress bar.
        """
        rng = np.random.default_rng(seed)
        folder = TemporaryDirectory(prefix="mixllm-demo-")
        taught = learned.take(rng.permutation(len(learned))[:_LEARNED_ROWS])
        with Router(candidates, encoder=encoder, seed=seed, clock=clock) as router:
            router.fit(taught.table(), progress=progress)
            router.save(Path(folder.name) / "state")
        order = rng.permutation(len(unseen))
        share = min(_HELD_OUT_ROWS, len(unseen) // 2)
        held_out = unseen.take(order[:share])
        return cls(
            folder=folder,
            samples=draw(unseen.take(order[share:]), seed),
            held_out=held_out,
            stand_in=stand_in,
            encoder=RowsEncoder(encoder, held_out.texts),
            clock=clock,
        )

    def router(self, seed: int) -> Router:
        """Return a fitted router for one visitor."""
        return Router.load(Path(self._folder.name) / "state", encoder=self.encoder, seed=seed, clock=self.clock)

    def close(self) -> None:
        """Stop the local model and drop the fitted state."""
        self.stand_in.close()
        self._folder.cleanup()


def prepare(say: Callable[[str], None]) -> Stage:
    """Make the stage of the demonstration, saying what is under way.

    Raises
    ------
    ImportError
        If the package with the recorded rows is missing.
    """
    from mixllm_engine.calling.litellm_client import load_litellm
    from mixllm_engine.encoding.encoder import OnnxEncoder
    from mixllm_engine.evaluation.datasets.packaged import load_packaged

    learned, unseen = load_packaged("paretobandit:val"), load_packaged("paretobandit:test")
    say(f"learning from the recorded outcomes of {len(learned.names)} LLMs ...")
    stand_in = StandIn()
    stage = Stage.of(learned, unseen, recorded_candidates(), encoder=OnnxEncoder(), stand_in=stand_in, progress=True)
    say("starting the local model ...")
    stand_in.start()
    if stand_in.missing:
        say(stand_in.missing)
    load_litellm()  # takes seconds, which the first answer need not wait for
    return stage
