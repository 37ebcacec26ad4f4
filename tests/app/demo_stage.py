"""A small stage for the demonstration's tests: synthetic rows, an encoder without weights, a scripted stand-in."""

from __future__ import annotations

from mixllm_engine.app.demo.screen import LearnedRow
from mixllm_engine.app.demo.session import Visit
from mixllm_engine.app.demo.stage import Stage
from mixllm_engine.app.demo.standin import StandIn
from mixllm_engine.testing import FakeClock, HashingEncoder
from mixllm_engine.types import Candidate
from tests.evaluation import synthetic

CHEAP, DEAR = "cheap", "dear"
OWN = "What is the capital of France?"


def candidates(api_base: str | None = None) -> list[Candidate]:
    prices = zip(synthetic.NAMES, synthetic.PROMPT_USD, synthetic.ANSWER_USD, strict=True)
    return [
        Candidate(
            name=name,
            model=f"openai/{name}",
            api_base=api_base,
            input_usd_per_mtok=float(prompt) * 1e6,
            output_usd_per_mtok=float(answer) * 1e6,
        )
        for name, prompt, answer in prices
    ]


def make_stage(pool: list[Candidate] | None = None, stand_in: StandIn | None = None) -> Stage:
    return Stage.of(
        synthetic.pool(200, seed=0),
        synthetic.pool(120, seed=1),
        pool or candidates(),
        encoder=HashingEncoder(32),
        stand_in=stand_in or StandIn(),
        clock=FakeClock(),
    )


def known(visit: Visit, name: str) -> LearnedRow:
    return next(row for row in visit.screen().learned if row.name == name)
