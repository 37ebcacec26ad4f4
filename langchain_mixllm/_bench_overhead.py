"""What routing adds to a LangChain chat model, beside other routers that are LangChain chat models.

``python -m langchain_mixllm._bench_overhead [--quick]`` prints rows as JSON; ``mixllm bench --langchain`` runs it. All
systems ask the same two models on the same server, and none of them asks an LLM to route.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from tempfile import TemporaryDirectory
from typing import Any, Final, Protocol

import numpy as np

from langchain_mixllm import ChatMixLLM
from mixllm_engine.calling.litellm_client import load_litellm
from mixllm_engine.evaluation.bench import calls
from mixllm_engine.evaluation.bench.fresh import llm_server
from mixllm_engine.evaluation.bench.inputs import prices, texts_of
from mixllm_engine.evaluation.bench.report import Row, compared
from mixllm_engine.evaluation.bench.timing import Clock, Contender, Effort, alternate

PART: Final = "LangChain chat models"
BARE: Final = "ChatLiteLLM"
OURS: Final = "ChatMixLLM"
MODELS: Final = calls.MODELS[:2]
THREADS: Final = 16
_NEW: Final = f"{OURS}, new prompts"
_WORDS: Final = 20
_KNOWN: Final = 16
_THINKING_S: Final = 0.1

FULL: Final = calls.Sizes(
    effort=Effort(blocks=20, calls=5, most_s=4.0, longest_step_s=math.inf), threads=(THREADS,), blocks=3, calls=48
)
QUICK: Final = calls.Sizes(
    effort=Effort(blocks=2, calls=3, warm_up=3, longest_step_s=math.inf), threads=(THREADS,), blocks=1, calls=32
)


class ChatModel(Protocol):
    """What is asked of a system."""

    def invoke(self, text: str, /) -> object:
        """Wait for an answer."""
        ...

    def ainvoke(self, text: str, /) -> Awaitable[object]:
        """Return an answer to wait for."""
        ...


@dataclass(frozen=True, kw_only=True)
class Entrant:
    """One system.

    Attributes
    ----------
    name : str
        How the report calls it.
    model : ChatModel, optional
        ``None`` where it can't be run here.
    note : str
        What a reader has to know of it, or why it can't be run.
    """

    name: str
    model: ChatModel | None
    note: str = ""


def entrants(address: str) -> list[Entrant]:
    """Return the bare chat model, ours, and the rivals, each over the models at an address."""
    load_litellm()  # with its bundled price map
    from langchain_litellm import ChatLiteLLM

    def plain(model: str) -> Any:
        return ChatLiteLLM(model=f"openai/{model}", api_base=address, api_key=calls.KEY)

    bare = Entrant(name=BARE, model=plain(MODELS[0]))
    ours = ChatMixLLM(router=calls.router(address, MODELS))
    return [
        bare,
        Entrant(name=OURS, model=ours, note="prompts known"),
        _rival("langchain-model-router", "langchain-model-router==0.1.0", lambda: chat_router(plain)),
        # The distribution named routesmith is something else.
        _rival("RouteSmith", "routesmith-llm==0.9.3", lambda: route_smith(address)),
    ]


def chat_router(plain: Callable[[str], Any]) -> tuple[ChatModel, str]:
    """Return `langchain_model_router.ChatRouter` as its README sets it up: rules that weigh how hard a request is."""
    package: Any = import_module("langchain_model_router")
    routes = {name: plain(name) for name in MODELS}
    strategy = package.HeuristicStrategy(*MODELS)
    return package.ChatRouter(routes=routes, default_route=MODELS[0], strategy=strategy), "rules, learns nothing"


def route_smith(address: str) -> tuple[ChatModel, str]:
    """Return `routesmith.integrations.langchain.ChatRouteSmith`, with all settings but the server at their defaults."""
    integration: Any = import_module("routesmith.integrations.langchain")
    package: Any = import_module("routesmith")
    to_server = {"api_base": address, "api_key": calls.KEY}
    routing = package.RouteSmith(config=package.RouteSmithConfig(litellm_params=to_server))
    for name, (prompt, answer) in prices(MODELS).items():
        routing.register_model(f"openai/{name}", cost_per_1k_input=prompt / 1e3, cost_per_1k_output=answer / 1e3)
    return integration.ChatRouteSmith(routesmith=routing), "linear Thompson sampling, logs every call"


def overhead(connect: Callable[[str], Sequence[Entrant]], sizes: calls.Sizes, clock: Clock) -> list[Row]:
    """Time all systems in turn: single calls, single asynchronous calls, and many threads.

    Parameters
    ----------
    connect : callable
        Makes the systems for the address of a server with `MODELS`, the bare chat model first.
    sizes : Sizes
        How much is measured.
    clock : callable
        Nanoseconds.
    """
    with llm_server(MODELS) as address:
        systems = connect(address)
        rows = _single(systems, sizes.effort, clock, "invoke, one at a time", lambda model: model.invoke)
        with asyncio.Runner() as runner:
            waiting = partial(_waiting, runner)
            rows += _single(systems, sizes.effort, clock, "ainvoke, one at a time", waiting)
        rows += _throughput(systems, sizes, clock, "at once")
    with llm_server(MODELS, _THINKING_S) as address:
        rows += _throughput(connect(address), sizes, clock, f"after {_THINKING_S:g} s")
    return rows


def _rival(name: str, requirement: str, make: Callable[[], tuple[ChatModel, str]]) -> Entrant:
    try:
        model, note = make()
    except ImportError:
        return Entrant(name=name, model=None, note=f"not installed: pip install {requirement}")
    return Entrant(name=name, model=model, note=note)


def _waiting(runner: asyncio.Runner, model: ChatModel) -> calls.Ask:
    async def ask(text: str) -> object:
        return await model.ainvoke(text)

    return lambda text: runner.run(ask(text))


def _single(
    systems: Sequence[Entrant], effort: Effort, clock: Clock, setting: str, way: Callable[[ChatModel], calls.Ask]
) -> list[Row]:
    """Time single calls; ours also with prompts whose embedding is not known yet."""
    texts = texts_of(_WORDS, _KNOWN + effort.most_calls)
    known, new = texts[:_KNOWN], texts[_KNOWN:]
    contenders: list[Contender] = []
    for system in systems:
        if system.model is None:
            contenders.append(Contender(name=system.name, step=None, note=system.note))
            continue
        ask = way(system.model)
        for text in known:  # also loads everything
            ask(text)
        contenders.append(Contender(name=system.name, step=_asking(ask, known), note=system.note))
        if system.name == OURS:
            contenders.append(Contender(name=_NEW, step=_asking(ask, new), note="encoding included"))
    measured = alternate(contenders, effort, clock)
    rows = compared(measured, part=PART, setting=setting, unit="ms", against=BARE)
    for name, timed in measured.items():
        if name != BARE and timed.seconds.size:
            added = float(np.median(timed.by_block - measured[BARE].by_block)) * 1e3
            rows.append(Row(part=PART, setting=f"{setting}: added", system=name, unit="ms", p50=added))
    return rows


def _asking(ask: calls.Ask, texts: Sequence[str]) -> Callable[[int], object]:
    return lambda serial: ask(texts[serial % len(texts)])


def _throughput(systems: Sequence[Entrant], sizes: calls.Sizes, clock: Clock, answers: str) -> list[Row]:
    asks = {system.name: system.model.invoke for system in systems if system.model is not None}
    rates = calls.rates_of(asks, THREADS, sizes, clock)
    setting = f"invoke, {THREADS} threads, answers {answers}"
    return [_rate_row(system, setting, rates) for system in systems]


def _rate_row(system: Entrant, setting: str, rates: Mapping[str, Sequence[float]]) -> Row:
    row = Row(part=PART, setting=setting, system=system.name, unit="calls/s", note=system.note)
    if (found := rates.get(system.name)) is None:
        return row
    share = float(np.median(np.array(found) / np.array(rates[BARE])))
    return replace(row, best=max(found), p50=float(np.median(found)), count=len(found), ratio=share)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print rows as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few calls only")
    quick: bool = parser.parse_args(arguments).quick
    # RouteSmith writes a database where it runs.
    with TemporaryDirectory() as folder, chdir(folder):
        rows = overhead(entrants, QUICK if quick else FULL, time.perf_counter_ns)
    sys.stdout.write(json.dumps([row.as_dict() for row in rows]) + "\n")


if __name__ == "__main__":
    main()
