"""(a) Learn from recorded outcomes of three LLMs; report what routing would have saved on other queries.

The outcomes are real: the package ``paretobandit`` ships the graded answers of three LLMs, with dollars, to 1,785 and
1,824 queries of public benchmarks.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from rich.console import Console
from rich.table import Table

from mixllm_engine import Candidate, OnnxEncoder, Query, Router

Array = npt.NDArray[np.float64]

# List prices in US dollars per million tokens, as the package states them.
CANDIDATES = [
    Candidate(
        name="meta-llama/llama-3.1-8b-instruct",
        model="openrouter/meta-llama/llama-3.1-8b-instruct",
        input_usd_per_mtok=0.1,
        output_usd_per_mtok=0.1,
    ),
    Candidate(
        name="mistralai/mistral-large-2512",
        model="openrouter/mistralai/mistral-large-2512",
        input_usd_per_mtok=0.5,
        output_usd_per_mtok=1.5,
    ),
    Candidate(
        name="google/gemini-2.5-pro",
        model="openrouter/google/gemini-2.5-pro",
        input_usd_per_mtok=1.25,
        output_usd_per_mtok=10.0,
    ),
]
# From "as cheap as possible" to "quality alone", in calls to the dearest candidate per point of quality.
WILLINGNESS = [0.0, *np.logspace(-2, 3, 26)]
MOST_COST, LEAST_QUALITY = 0.05, 0.98


def read(name: str) -> pd.DataFrame:
    """Read one of the two files as a wide table: a row per query, a column per LLM and quantity."""
    spec = importlib.util.find_spec("pareto_bandit")
    if spec is None or spec.origin is None:
        raise SystemExit("the outcomes are in a package: pip install --no-deps paretobandit==0.1.1")
    with (Path(spec.origin).parent / "data" / "examples" / name).open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return pd.DataFrame(
        [
            {"prompt": row["prompt"]}
            | {f"{llm}|quality": arm["reward"] for llm, arm in row["arms"].items()}
            | {f"{llm}|cost_usd": arm["cost"] for llm, arm in row["arms"].items()}
            for row in rows
        ]
    )


def mix_quality(cost: float, quality: Array, spend: Array) -> float:
    """Return the mean quality of the best query-blind mix of the LLMs at a mean cost (RouterBench's Zero router)."""
    best = -np.inf
    for i in range(len(spend)):
        for j in range(len(spend)):
            if spend[i] <= cost <= spend[j]:
                share = 0.0 if spend[i] == spend[j] else (cost - spend[i]) / (spend[j] - spend[i])
                best = max(best, (1 - share) * quality[i] + share * quality[j])
    return float(best if np.isfinite(best) else quality[np.argmax(spend)])


def run(console: Console) -> bool:
    """Fit, replay, print; returns whether the savings are there."""
    console.rule("(a) three LLMs, recorded answers: learn on 1,785 queries, choose on 1,824 others")
    known, unseen = read("val.jsonl"), read("test_holdout.jsonl")
    encoder = OnnxEncoder()
    router = Router(CANDIDATES, encoder=encoder, seed=0)
    report = router.fit(known)
    console.print(f"learned from {report.rows} queries; now routing {len(unseen)} that it has never seen")

    names = [candidate.name for candidate in CANDIDATES]
    quality = unseen[[f"{name}|quality" for name in names]].to_numpy()
    cost = unseen[[f"{name}|cost_usd" for name in names]].to_numpy()
    dearest = int(cost.mean(axis=0).argmax())
    top_quality, top_cost = quality[:, dearest].mean(), cost[:, dearest].mean()
    queries = [Query(embedding=vector) for vector in encoder.encode(list(unseen["prompt"]))]

    table = Table(
        title=f"against always {names[dearest]} ({top_quality:.3f} at ${top_cost * 1000:.2f} per 1,000 queries)"
    )
    for heading in ("budget", "quality", "quality kept", "cost", "saved", "query-blind mix", "share of each LLM"):
        table.add_column(heading, justify="left" if heading in ("budget", "share of each LLM") else "right")
    rows, held = np.arange(len(unseen)), False
    points: list[dict[str, object]] = [{"budget": word} for word in ("very_low", "low", "medium", "high", "very_high")]
    points += [{"willingness_to_pay": float(value)} for value in WILLINGNESS]
    for terms in points:
        chosen = np.array([names.index(router.decide(query, **terms).candidate) for query in queries])  # type: ignore[arg-type]
        got, paid = quality[rows, chosen].mean(), cost[rows, chosen].mean()
        mixed = mix_quality(paid, quality.mean(axis=0), cost.mean(axis=0))
        good = got >= LEAST_QUALITY * top_quality and paid <= MOST_COST * top_cost and got > mixed
        held |= good
        if "budget" in terms or good:
            label = str(terms.get("budget") or f"lambda {terms['willingness_to_pay']:.2g}")
            shares = " / ".join(f"{(chosen == k).mean():.0%}" for k in range(len(names)))
            saved, kept = 1 - paid / top_cost, got / top_quality
            cells = (f"{got:.4f}", f"{kept:.1%}", f"{paid / top_cost:.2%}", f"{saved:.1%}", f"{mixed:.4f}", shares)
            table.add_row(label, *cells, style="bold" if good else None)
    console.print(table)
    console.print(
        f"bold: at least {LEAST_QUALITY:.0%} of the quality for at most {MOST_COST:.0%} of the cost, "
        "and better than the query-blind mix at the same cost"
    )
    return held
