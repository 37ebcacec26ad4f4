"""What was learned, as a router says it: one that was saved, or one on the store that running routers write to.

A store has no settings of its routers, and their pool only where one of them has learned from a table, or has welcomed
a candidate with labels. Where it has neither, the pool is that of the newest decision, with the default settings.
Prices that nobody has told are not made up: they only count for what is believed before the first label.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from mixllm_engine.app.ledger import Ledger, packaged_spaces
from mixllm_engine.candidates import Pool, resolve
from mixllm_engine.config import FeatureConfig, RouterConfig
from mixllm_engine.errors import UnknownPriceError
from mixllm_engine.router import Router
from mixllm_engine.saving import unpack
from mixllm_engine.store.sql import SqlStore
from mixllm_engine.types import Candidate

Settings = Literal["saved", "default"]

_Z: Final = 1.96  # of a normal 95 % interval


@dataclass(frozen=True, kw_only=True)
class Learned:
    """What a router says.

    Attributes
    ----------
    candidates : tuple of Candidate
        The pool.
    unpriced : frozenset of str
        Those of it whose prices and abilities nobody has told.
    stats : mapping or None
        `Router.stats`; ``None`` where nobody has decided yet, and where the vectors are another encoder's than the
        packaged one's: then only a router that has this encoder knows what they taught.
    settings : str
        Where they come from: ``"saved"`` in a folder or in the store, or ``"default"``.
    """

    candidates: tuple[Candidate, ...]
    unpriced: frozenset[str]
    stats: Mapping[str, Any] | None
    settings: Settings

    def of(self, name: str) -> Mapping[str, Any]:
        """Return what `Router.stats` tells of a candidate; nothing where there is nothing to tell."""
        return {} if self.stats is None else self.stats["candidates"].get(name, {})


def from_log(
    store: SqlStore, ledger: Ledger, given: Sequence[str | Candidate] = (), folder: Path | None = None
) -> Learned:
    """Return what a router on a store says: one that was saved, where there is a folder, else one of the store's own.

    For parameters and errors see `from_folder` and `from_store`.
    """
    return from_store(store, ledger, given) if folder is None else from_folder(folder, store, given)


def from_store(store: SqlStore, ledger: Ledger, given: Sequence[str | Candidate] = ()) -> Learned:
    """Return what a router on a store says.

    Parameters
    ----------
    store : SqlStore
        The log.
    ledger : Ledger
        What it says of the packaged encoder.
    given : sequence of str or Candidate
        The pool; that of the store's own routers where nobody is given.

    Raises
    ------
    StoreError
        If the log can't be read.
    StateError
        If what it keeps is damaged.
    """
    spaces = packaged_spaces()
    space = ledger.encoder or next(iter(spaces))
    state = store.state(space)
    saved = None if state is None else unpack(state.data)
    settings: Settings = "default" if saved is None else "saved"
    pool, unpriced = list(given), frozenset[str]()
    if not pool:
        told = {} if saved is None else {candidate.name: candidate for candidate in saved.candidates}
        names = {*(ledger.pool or told), *store.choices(), *ledger.accounts}
        unpriced = frozenset(name for name in names if name not in told and not _priced(name))
        pool = [told.get(name) or (_unpriced(name) if name in unpriced else name) for name in sorted(names)]
    if not pool or space not in spaces:
        candidates = Pool(pool).candidates if pool else ()
        return Learned(candidates=candidates, unpriced=unpriced, stats=None, settings=settings)
    config = RouterConfig(features=FeatureConfig(surface=spaces[space])) if saved is None else saved.config
    with _reading(Router(pool, config=config, store=store)) as router:
        return Learned(candidates=router.candidates, unpriced=unpriced, stats=router.stats(), settings=settings)


def from_folder(folder: Path, store: SqlStore | None, given: Sequence[str | Candidate] = ()) -> Learned:
    """Return what a saved router says, on a store if there is one, or raise what `Router.load` does."""
    with _reading(Router.load(folder, candidates=given or None, store=store)) as router:
        return Learned(candidates=router.candidates, unpriced=frozenset(), stats=router.stats(), settings="saved")


def of_nobody(given: Sequence[str | Candidate]) -> Learned:
    """Return what is known of a pool before anything was learned: prices, limits and abilities."""
    with Router(given) as router:
        return Learned(candidates=router.candidates, unpriced=frozenset(), stats=router.stats(), settings="default")


@contextmanager
def _reading(router: Router) -> Iterator[Router]:
    """Bring in the log, which `Router.stats` alone would put off where it can't be read."""
    with router:
        router.predict([])
        yield router


def _priced(name: str) -> bool:
    try:
        resolve(name)
    except UnknownPriceError:
        return False
    return True


def _unpriced(name: str) -> Candidate:
    return Candidate(name=name, model=name, input_usd_per_mtok=0.0, output_usd_per_mtok=0.0)


def interval(mean: float, labels: float) -> tuple[float, float]:
    """Return a 95 % interval for a mean reward in [0, 1] (Wilson 1927): exact for thumbs, wide enough for grades.

    Examples
    --------
    >>> [round(bound, 3) for bound in interval(0.8, 100)]
    [0.711, 0.867]
    """
    share = _Z * _Z / labels
    middle, reach = mean + share / 2.0, _Z * math.sqrt(mean * (1.0 - mean) / labels + share / labels / 4.0)
    return (middle - reach) / (1.0 + share), (middle + reach) / (1.0 + share)


def quality(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return labels, mean quality and its interval, from what `Router.stats` tells of a candidate; no labels, no mean.

    The interval counts what the labels weigh: after drift, or beside a table, less than their number.
    """
    labels, mean, weight = told.get("labels"), told.get("mean_reward"), told.get("weight")
    if mean is None or not weight:
        return {"labels": labels, "mean_quality": None, "interval_95": None}
    return {"labels": labels, "mean_quality": mean, "interval_95": list(interval(min(max(mean, 0.0), 1.0), weight))}


def shown(known: Mapping[str, Any]) -> str:
    """Return a mean quality with its interval as people read it."""
    if known["mean_quality"] is None:
        return "unknown"
    low, high = known["interval_95"]
    return f"{known['mean_quality']:.3f} ({low:.3f} to {high:.3f})"
