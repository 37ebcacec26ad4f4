"""The plan, carried out: questions at a steady rate, from threads and from an event loop, over one router."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import queue
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from mixllm_engine import AllCandidatesFailedError
from mixllm_engine.calling.failures import classify
from tests import litellm_clients
from tests.soak import health
from tests.soak.asking import ASTREAMED, AWHOLE, STREAMED, WHOLE, Answer, AsyncWay, Surfaces, Way
from tests.soak.books import Books, Judged
from tests.soak.provider import SLOWLY

HOUR_S = 3600.0
_THREADS = 12
_MOST_AT_ONCE = 48  # then the next question waits, and the rate falls short


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long, how fast, and by which lots."""

    seconds: float
    rate: float
    seed: int = 0

    @property
    def warm_up_s(self) -> float:
        """Until when memory may grow: a fifth of the time, and a minute where there is one."""
        return max(self.seconds / 5, min(60.0, self.seconds / 2))


class Traffic:
    """Everything that runs: the threads, the event loop, and the feedback that is yet to come."""

    def __init__(self, plan: Plan, surfaces: Surfaces, books: Books) -> None:
        self.plan, self.surfaces, self.books = plan, surfaces, books
        self._chance = random.Random(plan.seed)
        self._room = threading.Semaphore(_MOST_AT_ONCE)
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._late: list[tuple[float, int, Callable[[], None]]] = []  # a heap, by when it is due
        self._serials = itertools.count()
        self._lock = threading.Lock()
        # Of their own, so that the event loop's few threads are free for its answers.
        self._judges = ThreadPoolExecutor(_THREADS, thread_name_prefix="soak-judge")
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(self._on_loop_error)
        self._workers = [threading.Thread(target=self._carry_out, name=f"soak-{n}") for n in range(_THREADS)]
        self._workers.append(threading.Thread(target=self.loop.run_forever, name="soak-loop"))
        for worker in self._workers:
            worker.start()

    # -- asking ------------------------------------------------------------------------------------------------------

    def ask(self, number: int) -> None:
        """Begin with a question; waits while too many are under way."""
        self._room.acquire()
        self.books.count("asked")
        chance = random.Random(f"{self.plan.seed} {number}")
        token = f"token-{number}"
        leave = chance.random() < 0.06
        prompt = f"answer {SLOWLY if leave else 'at once'} about subject {number % 50} with {token}"
        streamed = chance.random() < 0.3
        if chance.random() < 0.5:
            name, way = chance.choice(list((STREAMED if streamed else WHOLE).items()))
            self._work.put(lambda: self._ask(name, way, prompt, token, leave and streamed, chance))
        else:
            name, away = chance.choice(list((ASTREAMED if streamed else AWHOLE).items()))
            asyncio.run_coroutine_threadsafe(
                self._aask(name, away, prompt, token, leave and streamed, leave and not streamed, chance), self.loop
            )

    def _ask(self, name: str, way: Way, prompt: str, token: str, leave: bool, chance: random.Random) -> None:
        try:
            self._came(name, token, way(self.surfaces, prompt, leave), leave, chance)
        except Exception as error:
            self._failed(name, error)
        finally:
            self._room.release()

    async def _aask(
        self, name: str, way: AsyncWay, prompt: str, token: str, leave: bool, cancel: bool, chance: random.Random
    ) -> None:
        task = asyncio.ensure_future(way(self.surfaces, prompt, leave))
        if cancel:
            self.loop.call_later(chance.uniform(0.0, 0.5), task.cancel)
        try:
            answer = await task
            await self.loop.run_in_executor(self._judges, self._came, name, token, answer, leave, chance)
        except asyncio.CancelledError:
            self.books.count("cancelled")
        except Exception as error:
            self._failed(name, error)
        finally:
            self._room.release()

    def _came(self, name: str, token: str, answer: Answer, leave: bool, chance: random.Random) -> None:
        if leave:
            self.books.left(name, answer)
        else:
            self.books.answered(name, token, answer)
            self._judge(answer, chance)

    def _failed(self, name: str, error: Exception) -> None:
        if isinstance(error, AllCandidatesFailedError):
            self.books.count("all failed")
        elif classify(error) is not None or classify(error.__cause__ or error) is not None:
            self.books.count("broken off")
        else:
            self.books.unexpected(name, error)

    # -- judging -----------------------------------------------------------------------------------------------------

    def _judge(self, answer: Answer, chance: random.Random) -> None:
        """Give feedback on most answers: at once, some seconds or minutes later, or when an hour has passed."""
        judged, rewards, drawn = Judged(answer), chance.sample([0.0, 0.5, 1.0], 2), chance.random()
        if drawn < 0.15:
            return
        said = [("user", rewards[0])]
        if drawn < 0.35:
            said.append(("user", rewards[drawn < 0.25]))  # once more, or something else
        elif drawn < 0.45:
            said.append(("judge", rewards[1]))
        for key, reward in said:
            self._when(chance, partial(self.books.judge, judged, key, reward))
        if drawn > 0.95:
            self._when(chance, partial(self.books.judge_unknown, chance.randbytes(16).hex()))

    def _when(self, chance: random.Random, give: Callable[[], None]) -> None:
        drawn = chance.random()
        if drawn < 0.7:
            give()
            return
        due = time.monotonic() + (chance.uniform(1.0, 60.0) if drawn < 0.99 else HOUR_S)
        with self._lock:
            heapq.heappush(self._late, (due, next(self._serials), give))

    def give_late(self, now: float) -> None:
        """Let the threads give the feedback that is due."""
        with self._lock:
            while self._late and self._late[0][0] <= now:
                self._work.put(heapq.heappop(self._late)[2])

    # -- ending ------------------------------------------------------------------------------------------------------

    def _carry_out(self) -> None:
        while (do := self._work.get()) is not None:
            try:
                do()
            except Exception as error:
                self.books.unexpected("feedback", error)

    def finish(self) -> None:
        """Wait for every answer, give all feedback, close LiteLLM's clients, and end the threads."""
        for _ in range(_MOST_AT_ONCE):
            self._room.acquire()
        self.give_late(float("inf"))
        for _ in range(_THREADS):
            self._work.put(None)
        for worker in self._workers[:_THREADS]:
            worker.join()
        self._judges.shutdown()
        asyncio.run_coroutine_threadsafe(self._end_loop(), self.loop).result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._workers[-1].join()
        self.loop.close()

    async def _end_loop(self) -> None:
        await asyncio.sleep(0.5)  # what was cancelled may still be closing its connections
        if left := health.open_tasks(self.loop):
            self.books.mistake(f"{len(left)} tasks have not ended: {', '.join(left[:10])}")
        await litellm_clients.close(litellm_clients.take_cached())
        for task in asyncio.all_tasks(self.loop) - {asyncio.current_task(self.loop)}:
            task.cancel()
        await self.loop.shutdown_asyncgens()
        await self.loop.shutdown_default_executor()

    def _on_loop_error(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.books.mistake(f"the event loop says: {context.get('message')} {error!r}")
