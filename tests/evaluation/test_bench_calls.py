"""What calls take: known prompts and new ones, and the same work for both clients."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import httpx
import pytest

from mixllm_engine.evaluation.bench import calls, fresh
from mixllm_engine.evaluation.bench.report import Budget
from tests.evaluation.bench_machine import SMALL, Machine


class Asked:
    """Clients that remember what they were asked, and by how many threads."""

    def __init__(self) -> None:
        self.bare: list[str] = []
        self.routed: list[str] = []
        self.threads: set[int] = set()

    def clients(self) -> calls.Clients:
        def ask(texts: list[str]) -> Callable[[str], object]:
            def asked(text: str) -> None:
                self.threads.add(threading.get_ident())
                texts.append(text)

            return asked

        return calls.Clients(names=("bare", "routed"), bare=ask(self.bare), routed=ask(self.routed))


def test_single_calls_tell_known_prompts_from_new_ones() -> None:
    asked, machine = Asked(), Machine()
    clients = asked.clients()

    def bare(text: str) -> None:
        clients.bare(text)
        machine.now_ns += 2_000_000

    def routed(text: str) -> None:
        machine.now_ns += 2_500_000 if text in asked.routed else 6_000_000
        clients.routed(text)

    made = calls.single_calls(replace(clients, bare=bare, routed=routed), SMALL, machine)
    by_system = {row.system: row for row in made}
    assert by_system["bare"].p50 == pytest.approx(2.0)
    assert by_system["routed"].p50 == pytest.approx(2.5)
    assert by_system["routed, new prompts"].p50 == pytest.approx(6.0)
    added = by_system["added beyond encoding"]
    assert added.p50 == pytest.approx(0.5) and added.holds is True
    assert by_system["added with encoding"].p50 == pytest.approx(4.0)


def test_throughput_gives_both_clients_the_same_work() -> None:
    asked = Asked()
    sizes = calls.Sizes(effort=SMALL, threads=(16,), blocks=2, calls=8)
    bare, routed = calls.throughput(asked.clients(), 16, sizes, "at once", time.perf_counter_ns)
    assert Counter(asked.bare) == Counter(asked.routed) and len(asked.bare) == 3 * 32  # with the warm-up
    assert threading.get_ident() not in asked.threads
    assert bare.p50 and routed.p50 and routed.ratio and bare.ratio == 1.0
    assert (bare.unit, bare.count, bare.budget) == ("calls/s", 2, None)
    assert routed.budget == Budget(of="ratio", limit=0.9, at_least=True)


def test_throughput_is_calls_per_second_and_its_share_is_taken_block_by_block() -> None:
    machine = Machine()

    def ask(cost_ns: int) -> Callable[[str], object]:
        def asked(text: str) -> None:
            machine.now_ns += cost_ns

        return asked

    clients = calls.Clients(names=("bare", "routed"), bare=ask(1_000_000), routed=ask(1_250_000))
    sizes = calls.Sizes(effort=SMALL, threads=(1,), blocks=2, calls=8)
    bare, routed = calls.throughput(clients, 1, sizes, "at once", machine)
    assert (bare.p50, routed.p50, routed.ratio) == pytest.approx((1000.0, 800.0, 0.8))
    assert (bare.setting, routed.budget) == ("1 thread, answers at once", None)


def test_the_server_runs_in_another_process() -> None:
    question = {"model": "small", "messages": [{"role": "user", "content": "Hello?"}]}
    with fresh.llm_server(["small"]) as address, httpx.Client() as client:
        answer = client.post(f"{address}/chat/completions", json=question, headers={"Authorization": "Bearer x"})
        assert answer.json()["choices"][0]["message"]["content"].startswith("It depends")
    with pytest.raises(httpx.ConnectError), httpx.Client() as client:
        client.post(f"{address}/chat/completions", json=question)
