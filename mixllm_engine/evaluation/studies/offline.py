"""What is learned from a table: the router against simple predictors, with the same costs for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from mixllm_engine.config import RouterConfig
from mixllm_engine.evaluation.frontier import summary
from mixllm_engine.evaluation.pools import FullFeedback
from mixllm_engine.evaluation.prices import candidates
from mixllm_engine.evaluation.rivals import lineup
from mixllm_engine.evaluation.rivals.costs import LogCost
from mixllm_engine.evaluation.studies.figures import Figure, Measured
from mixllm_engine.evaluation.studies.seeds import Seeds
from mixllm_engine.evaluation.workbench import Workbench, expected, sweep
from mixllm_engine.types import Candidate, Matrix, Vector

SHARES = (0.8, 0.3, 0.05)
GRID: Vector = np.concatenate([[0.0], np.logspace(-3, 4, 90), [np.inf]])
_COMPARED = ("cost@97.25", "cost@100", "area")
_ORACLE = "oracle"
# Expected quality and cost in dollars, each of shape (n, K), by setting and system.
Expected = dict[tuple[str, str], tuple[Matrix, Matrix]]


def offline(
    data: FullFeedback,
    bench: Workbench,
    seeds: Seeds,
    *,
    shares: Sequence[float] = SHARES,
    configs: Mapping[str, RouterConfig] | None = None,
    rivals: bool = True,
) -> list[Figure]:
    """Fit on a share of a pool, sweep lambda on the rest; see `frontier.summary` for the measures.

    Parameters
    ----------
    data : FullFeedback
        The pool.
    bench : Workbench
        Makes the routers.
    seeds : Seeds
        Splits.
    shares : sequence of float
        Shares to learn from.
    configs : mapping of str to RouterConfig, optional
        Routers by name; by default the default configuration alone. The first one's costs are also the rivals'.
    rivals : bool
        Compare with `rivals.lineup`, the query-blind mix of single LLMs, and an oracle that knows every outcome; once
        with the costs that the first router expects, and once more with costs that `LogCost` expects, for all. Then a
        row ``<first> - best rival`` has the differences to the best of them by mean, split by split; the oracle is none
        of them.
    """
    routers = dict(configs or {"default": RouterConfig.default()})
    work = partial(
        _one, data=data, bench=bench, sold=candidates(data), shares=tuple(shares), configs=routers, rivals=rivals
    )
    figures = seeds.figures("offline", data.name, work)
    return figures + (_margins(figures, routers) if rivals else [])


def _one(
    seed: int,
    *,
    data: FullFeedback,
    bench: Workbench,
    sold: Sequence[Candidate],
    shares: Sequence[float],
    configs: Mapping[str, RouterConfig],
    rivals: bool,
) -> Measured:
    found: Measured = {}
    for share in shares:
        train, test = data.split(share, seed)
        quality: dict[str, Matrix] = {}
        cost: dict[str, Matrix] = {}
        for name, config in configs.items():
            router = bench.fitted(train, config, seed=seed, sold_as=sold).router
            quality[name], cost[name] = expected(router, test)
        curves = {(f"{share:.0%}", name): (quality[name], cost[name]) for name in configs}
        if rivals:
            curves = _with_rivals(f"{share:.0%}", curves, train, test, bench, seed)
        for (setting, name), (worth, price) in curves.items():
            points = sweep(worth, price, test, train.reference_cost_usd, GRID)
            for measure, value in summary(points, test).items():
                # in a printed table, the one miss that a reader asks about is enough
                shown = measure if not measure.startswith("missed") or "@100" in measure else f"[{measure}"
                found[setting, name, shown] = value
    return found


def _with_rivals(
    setting: str, routers: Expected, train: FullFeedback, test: FullFeedback, bench: Workbench, seed: int
) -> Expected:
    """Add the rivals, once with the costs that the first router expects, and once all with those of `LogCost`."""
    known, asked = (bench.encoder.encode(part.texts).astype(np.float64) for part in (train, test))
    by_ridge = LogCost()
    by_ridge.fit(known, train.cost_usd)
    priced = by_ridge.predict(asked)
    curves = dict(routers)
    first = next(iter(routers.values()))[1]
    other = f"{setting}, ridge costs"
    curves |= {(other, name): (quality, priced) for (_, name), (quality, _) in routers.items()}
    for name, rival in lineup(domains=train.domains is not None, seed=seed).items():
        rival.fit(known, train.quality, train.domains)
        quality = rival.predict(asked, test.domains)
        curves |= {(setting, name): (quality, first), (other, name): (quality, priced)}
    blind = np.ones((len(test), 1))
    for where in (setting, other):
        curves[where, "query-blind mix"] = (blind * train.quality.mean(axis=0), blind * train.cost_usd.mean(axis=0))
        curves[where, _ORACLE] = (test.quality, test.cost_usd)
    return curves


def _margins(figures: Sequence[Figure], routers: Mapping[str, RouterConfig]) -> list[Figure]:
    """Return the first router's differences to the best rival, paired by seed; cost: less is better."""
    first = next(iter(routers))
    margins = []
    for setting in dict.fromkeys(figure.setting for figure in figures):
        for measure in _COMPARED:
            here = {f.system: f for f in figures if f.setting == setting and f.measure == measure}
            others = [figure for name, figure in here.items() if name not in routers and name != _ORACLE]
            pick = max if measure == "area" else min
            best = pick(others, key=lambda figure: figure.mean)
            differences = np.subtract(here[first].values, best.values)
            margins.append(
                Figure(
                    study="offline",
                    pool=best.pool,
                    setting=setting,
                    system=f"{first} - best rival",
                    measure=measure,
                    values=tuple(differences.tolist()),
                )
            )
    return margins
