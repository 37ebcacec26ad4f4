"""What routing adds to a call, and how much of a client's throughput is left with many threads on one router.

Run as a module it compares `mixllm_engine.calling` with LiteLLM and prints rows as JSON; `langchain_mixllm._bench` does
the same for LangChain's chat models. Both are run in processes of their own.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from mixllm_engine.calling.client import RoutedClient
from mixllm_engine.calling.litellm_client import load_litellm
from mixllm_engine.evaluation.bench.fresh import llm_server
from mixllm_engine.evaluation.bench.inputs import candidates, texts_of
from mixllm_engine.evaluation.bench.report import Budget, Row, compared
from mixllm_engine.evaluation.bench.timing import Clock, Contender, Effort, alternate
from mixllm_engine.router import Router

Ask = Callable[[str], object]

MODELS: Final = ("small", "middle", "large")
KEY: Final = "no-key-needed"
_WORDS: Final = 20
_KNOWN: Final = 16  # prompts that come again and again, so that their embeddings are remembered
_ADDED_MS: Final = 1.0
_THROUGHPUT: Final = Budget(of="ratio", limit=0.9, at_least=True)
_SHARE_THREADS: Final = 16
# The server's pause in the second comparison of throughputs: few LLMs are faster.
_THINKING_S: Final = 0.1


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is measured.

    Attributes
    ----------
    effort : Effort
        Of single calls.
    threads : tuple of int
        Numbers of threads.
    blocks : int
        How often the clients take turns at each number of threads.
    calls : int
        Calls of all threads together in each block, and at least twice as many as there are threads.
    """

    effort: Effort
    threads: tuple[int, ...]
    blocks: int
    calls: int


FULL: Final = Sizes(
    effort=Effort(blocks=50, calls=5, most_s=5.0, longest_step_s=math.inf),
    threads=(1, 2, 4, 8, 16, 32),
    blocks=3,
    calls=48,
)
QUICK: Final = Sizes(
    effort=Effort(blocks=2, calls=5, warm_up=3, longest_step_s=math.inf), threads=(1, 4), blocks=1, calls=8
)


@dataclass(frozen=True, kw_only=True)
class Clients:
    """The same question asked without and with a router.

    Attributes
    ----------
    names : tuple of str
        Of the bare client and of the routed one.
    bare, routed : callable
        Ask one question and wait for the answer.
    """

    names: tuple[str, str]
    bare: Ask
    routed: Ask


def call_rows(connect: Callable[[str], Clients], sizes: Sizes, clock: Clock = time.perf_counter_ns) -> list[Row]:
    """Compare a bare client with a routed one, on a server that answers at once and on one that thinks first.

    Parameters
    ----------
    connect : callable
        Makes the clients for the address of a server with `MODELS`.
    sizes : Sizes
        How much is measured.
    clock : callable
        Nanoseconds.
    """
    with llm_server(MODELS) as address:
        clients = connect(address)
        rows = single_calls(clients, sizes.effort, clock)
        for threads in sizes.threads:
            rows += throughput(clients, threads, sizes, "at once", clock)
    with llm_server(MODELS, _THINKING_S) as address:
        clients = connect(address)
        for threads in sorted({_SHARE_THREADS, sizes.threads[-1]} & set(sizes.threads)):
            rows += throughput(clients, threads, sizes, f"after {_THINKING_S:g} s", clock)
    return rows


def single_calls(clients: Clients, effort: Effort, clock: Clock) -> list[Row]:
    """Time single calls: bare, routed with prompts whose embedding is known, routed with prompts that are new."""
    bare, routed = clients.names
    texts = texts_of(_WORDS, _KNOWN + effort.most_calls)
    known, new = texts[:_KNOWN], texts[_KNOWN:]
    for text in known:  # also loads everything
        clients.bare(text)
        clients.routed(text)
    fresh = f"{routed}, new prompts"
    measured = alternate(
        [
            Contender(name=bare, step=lambda serial: clients.bare(known[serial % _KNOWN])),
            Contender(name=routed, step=lambda serial: clients.routed(known[serial % _KNOWN]), note="prompts known"),
            Contender(name=fresh, step=lambda serial: clients.routed(new[serial]), note="encoding included"),
        ],
        effort,
        clock,
    )
    part, setting = f"{routed} over {bare}", "one call at a time"
    rows = compared(measured, part=part, setting=setting, unit="ms", against=bare)
    for name, system in ((routed, "added beyond encoding"), (fresh, "added with encoding")):
        added = float(np.median(measured[name].by_block - measured[bare].by_block)) * 1e3
        rows.append(Row(part=part, setting=setting, system=system, unit="ms", p50=added))
    rows[-2] = replace(rows[-2], budget=Budget(of="p50", limit=_ADDED_MS))
    return rows


def throughput(clients: Clients, threads: int, sizes: Sizes, answers: str, clock: Clock) -> list[Row]:
    """Count calls per second of several threads that share a client; clients take turns."""
    bare, routed = clients.names
    rates = rates_of({bare: clients.bare, routed: clients.routed}, threads, sizes, clock)
    shares = {bare: 1.0, routed: float(np.median(np.array(rates[routed]) / np.array(rates[bare])))}
    return [
        Row(
            part=f"{routed} over {bare}",
            setting=f"{threads} {'thread' if threads == 1 else 'threads'}, answers {answers}",
            system=name,
            unit="calls/s",
            best=max(found),
            p50=float(np.median(found)),
            count=len(found),
            ratio=shares[name],
            budget=_THROUGHPUT if (name, threads) == (routed, _SHARE_THREADS) else None,
        )
        for name, found in rates.items()
    ]


def rates_of(asks: Mapping[str, Ask], threads: int, sizes: Sizes, clock: Clock) -> dict[str, list[float]]:
    """Return the calls per second of each client in each block; the clients take turns, all threads share one."""
    calls = max(sizes.calls, 2 * threads)
    texts = (texts_of(_WORDS, _KNOWN) * (calls // _KNOWN + 1))[:calls]
    rates: dict[str, list[float]] = {name: [] for name in asks}
    with ThreadPoolExecutor(threads) as pool:
        for block in range(sizes.blocks + 1):
            for name, ask in asks.items():
                before = clock()
                for _ in pool.map(ask, texts):
                    pass
                if block:  # the first one warms up
                    rates[name].append(calls / ((clock() - before) * 1e-9))
    return rates


def litellm_clients(address: str) -> Clients:
    """Return LiteLLM's blocking completion, and the engine's client over the same models."""
    litellm = load_litellm()
    client = RoutedClient(router(address))

    def bare(text: str) -> object:
        messages = [{"role": "user", "content": text}]
        return litellm.completion(
            model=f"openai/{MODELS[0]}", messages=messages, api_base=address, api_key=KEY, num_retries=0, max_retries=0
        )

    return Clients(
        names=("litellm.completion", "RoutedClient"),
        bare=bare,
        routed=lambda text: client.complete([{"role": "user", "content": text}]),
    )


def router(address: str, models: Sequence[str] = MODELS) -> Router:
    """Return a router over the server's models, with the packaged encoder."""
    return Router(candidates(models, api_base=address, api_key=KEY), seed=0)


def main(connect: Callable[[str], Clients], arguments: Sequence[str] | None = None) -> None:
    """Measure and print rows as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="a few calls only")
    quick: bool = parser.parse_args(arguments).quick
    rows = call_rows(connect, QUICK if quick else FULL)
    sys.stdout.write(json.dumps([row.as_dict() for row in rows]) + "\n")


if __name__ == "__main__":
    main(litellm_clients)
