"""A loopback chat-completions server that does as it is told, for tests of anything that calls an LLM.

It speaks real HTTP and real server-sent events, so the client under test runs unchanged: nothing is patched. It is as
strict as the real API about what it accepts (`mixllm_engine.testing.request_check`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from types import TracebackType

from mixllm_engine.testing.behaviours import Behaviour, Failure, RecordedRequest, Script, Step
from mixllm_engine.testing.journal import Journal
from mixllm_engine.testing.transport import HttpServer


class ScriptedServer:
    """An OpenAI-compatible server on 127.0.0.1 whose answers are scripted per model name.

    A context manager; `start` and `close` do the same by hand. All methods may be called from any thread.

    Examples
    --------
    >>> from openai import OpenAI
    >>> from mixllm_engine.testing.behaviours import Failure, Reply
    >>> hello = [{"role": "user", "content": "Hello?"}]
    >>> with ScriptedServer() as server:
    ...     server.script("cheap", [Failure(status=429), Reply(text="Good day")])  # fails once, then answers
    ...     with OpenAI(base_url=server.base_url, api_key="any", max_retries=1) as client:
    ...         answer = client.chat.completions.create(model="cheap", messages=hello)
    ...     answer.choices[0].message.content, answer.usage.completion_tokens, server.count("cheap")
    ('Good day', 2, 2)
    """

    def __init__(self) -> None:
        self._journal = Journal()
        self._scripts: dict[str, _Playback] = {}
        self._lock = threading.Lock()
        self._http: HttpServer | None = None

    def start(self) -> ScriptedServer:
        """Listen on a free port of 127.0.0.1. Does nothing if the server runs already."""
        with self._lock:
            if self._http is None:
                self._http = HttpServer(self._journal, self._choose)
                self._http.start()
        return self

    def close(self) -> None:
        """Stop listening and break off every answer under way. Does nothing if the server doesn't run."""
        with self._lock:
            http, self._http = self._http, None
        if http is not None:
            http.stop()

    def __enter__(self) -> ScriptedServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        http = self._http
        self.close()
        for mistake in http.mistakes if http else ():
            # The client only saw a lost connection: tell the user what really went wrong.
            if error is None:
                raise mistake
            error.add_note(f"the scripted server also failed: {mistake!r}")

    @property
    def base_url(self) -> str:
        """Where clients find the API: ``http://127.0.0.1:PORT/v1``."""
        http = self._http
        if http is None:
            raise RuntimeError("the scripted server is not running: use it in a with statement, or call start()")
        return f"http://127.0.0.1:{http.server_address[1]}/v1"

    def script(self, model: str, script: Script) -> None:
        """Say what requests that name this model get; replaces what was said before.

        Parameters
        ----------
        model : str
            Model name as it stands in the request body (LiteLLM sends ``"cheap"`` for ``"openai/cheap"``).
        script : behaviour, callable, or sequence of these
            One for every request, or several for the first, second, ... request; the last one repeats. A callable is
            given the `RecordedRequest` and returns the behaviour. Requests that are refused as invalid use none up.
        """
        playback = _Playback(script)
        with self._lock:
            self._scripts[model] = playback

    @property
    def requests(self) -> tuple[RecordedRequest, ...]:
        """Every HTTP POST so far, oldest first, as it stands now."""
        return self._journal.snapshot()

    def count(self, model: str) -> int:
        """Return the number of HTTP requests that named this model, refused ones included."""
        return sum(request.model == model for request in self.requests)

    def clear(self) -> None:
        """Forget the recorded requests. Scripts stay, and go on where they are."""
        self._journal.clear()

    def wait_for(self, condition: Callable[[RecordedRequest], bool], timeout_s: float = 2.0) -> RecordedRequest:
        """Wait until a recorded request satisfies a condition, and return the oldest that does.

        Raises
        ------
        TimeoutError
            If none does in time.

        Examples
        --------
        ``server.wait_for(lambda request: request.disconnected)``
        """
        return self._journal.wait_for(condition, timeout_s)

    def _choose(self, request: RecordedRequest) -> Behaviour:
        with self._lock:
            playback = self._scripts.get(request.model)
            step = playback.next() if playback else None
        if step is None:
            message = f"The model `{request.model}` does not exist or you do not have access to it."
            return Failure(status=404, message=message, code="model_not_found")
        # Outside the lock: a user's function may take its time, or look at the server.
        behaviour = step(request) if callable(step) else step
        if not isinstance(behaviour, Behaviour):
            raise TypeError(f"the script for model {request.model!r} returned {behaviour!r}, which is no behaviour")
        return behaviour


class _Playback:
    """A script and how far it has come."""

    def __init__(self, script: Script) -> None:
        self._steps: tuple[Step, ...] = tuple(script) if isinstance(script, Sequence) else (script,)
        if not self._steps:
            raise ValueError("a script needs at least one behaviour, got an empty sequence")
        for step in self._steps:
            if not (callable(step) or isinstance(step, Behaviour)):
                raise TypeError(f"{step!r} is neither a behaviour (such as Reply) nor a function that returns one")
        self._position = 0

    def next(self) -> Step:
        step = self._steps[min(self._position, len(self._steps) - 1)]
        self._position += 1
        return step
