"""The examples over LiteLLM run to their ends: two agent frameworks, and the proxy as a process of its own."""

from __future__ import annotations

import importlib.util
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).parents[2]
KEY = "sk-of-the-proxy"

SAYS = {
    "smolagents_agent": r"Together: 1088395\nsteps: (\w+) -> \1 -> \1 -> \1\n4 decisions learned from one thumbs-up",
    "openai_agents_agent": r"Together: 1088395\nsteps: (\w+) -> \1 -> \1 -> \1\n4 decisions learned from one thumbs-up"
    r"\nstreamed: Together: 291940",
}
FRAMEWORKS = {"smolagents_agent": "smolagents", "openai_agents_agent": "agents"}
# What `litellm[proxy]` brings and a proxy without a database really imports.
OF_THE_PROXY = (
    "apscheduler", "backoff", "email_validator", "expression", "fastapi", "fastapi_sso", "redis", "soundfile", "uvloop",
)  # fmt: skip


def environment(**more: str) -> dict[str, str]:
    keyless = {key: value for key, value in os.environ.items() if not key.endswith("_API_KEY")}
    return {**keyless, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "PYTHONPATH": str(ROOT), **more}


def test_no_example_is_left_out() -> None:
    files = {path.stem for path in (ROOT / "examples" / "litellm").glob("*.py")}
    assert files == {*SAYS, "mixllm_handler"}


@pytest.mark.parametrize("name", sorted(SAYS))
def test_an_agent_of_another_framework(name: str) -> None:
    pytest.importorskip(FRAMEWORKS[name], reason="this framework is not installed")
    done = subprocess.run(
        [sys.executable, "-m", f"examples.litellm.{name}"],
        capture_output=True, text=True, cwd=ROOT, timeout=120, env=environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.search(SAYS[name], done.stdout), done.stdout


# -- the proxy -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A real proxy on this machine, with a client that has its key."""
    if missing := [name for name in OF_THE_PROXY if importlib.util.find_spec(name) is None]:
        pytest.skip(f"litellm[proxy] is not installed: {', '.join(missing)} missing")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    folder = tmp_path_factory.mktemp("proxy")
    config = ROOT / "examples" / "litellm" / "proxy_config.yaml"
    command = [sys.executable, "-m", "litellm.proxy.proxy_cli", "--config", str(config), "--host", "127.0.0.1"]
    ours = environment(LITELLM_MASTER_KEY=KEY, MIXLLM_STORE=str(folder / "mixllm.db"))
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([*command, "--port", str(port)], cwd=folder, env=ours, stdout=log, stderr=log)
    headers = {"Authorization": f"Bearer {KEY}"}
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60.0) as client:
            _wait(client, process, folder / "log")
            yield client
    finally:
        process.terminate()
        process.wait(30)


def _wait(client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 180.0
    while time.monotonic() < until and process.poll() is None:
        try:
            if client.get("/health/liveliness").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.5)
    raise AssertionError(f"the proxy did not start: {log.read_text()[-3000:]}")


def asked(question: str = "What is the capital of France?", **more: Any) -> dict[str, Any]:
    return {"model": "mixllm/auto", "messages": [{"role": "user", "content": question}], **more}


def test_the_proxy_answers_and_charges_once(proxy: httpx.Client) -> None:
    response = proxy.post("/v1/chat/completions", json=asked(metadata={"mixllm": {"force": "cheap"}}))
    answer = response.json()
    assert answer["choices"][0]["message"]["content"] == "Paris"
    assert response.headers["llm_provider-x-mixllm-candidate"] == "cheap"
    cost_usd = (40 * 0.1 + 250 * 0.4) / 1e6
    assert float(response.headers["x-litellm-response-cost"]) == pytest.approx(cost_usd)
    assert answer["usage"]["cost"] == pytest.approx(cost_usd)
    assert answer["usage"]["total_tokens"] == 290


def test_the_proxy_streams(proxy: httpx.Client) -> None:
    wanted = asked(stream=True, stream_options={"include_usage": True})
    with proxy.stream("POST", "/v1/chat/completions", json=wanted) as response:
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: {")]
    chunks = [httpx.Response(200, text=line).json() for line in lines]
    words = [choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]]
    assert "".join(words) == "Paris"
    assert {chunk["id"] for chunk in chunks} == {chunks[0]["id"]}
    assert chunks[-1]["usage"]["total_tokens"] == 290
    thumb = {"id": chunks[0]["id"], "reward": 1.0}
    assert proxy.post("/mixllm/feedback", json=thumb).json()["status"] == "applied"


def test_tools_through_the_proxy(proxy: httpx.Client) -> None:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}}
    tool = {"type": "function", "function": {"name": "population", "parameters": parameters}}
    answer = proxy.post("/v1/chat/completions", json=asked("How many live in Oslo?", tools=[tool])).json()
    (call,) = answer["choices"][0]["message"]["tool_calls"]
    assert call["function"] == {"name": "population", "arguments": '{"city": "Oslo"}'}


def test_feedback_through_the_proxy_teaches(proxy: httpx.Client) -> None:
    answer = proxy.post("/v1/chat/completions", json=asked(metadata={"mixllm": {"force": "dear"}})).json()
    thumb = {"id": answer["id"], "reward": 1.0}
    assert proxy.post("/mixllm/feedback", json=thumb).json() == {"status": "applied", "candidate": "dear"}
    assert proxy.post("/mixllm/feedback", json=thumb).json()["status"] == "duplicate"
    assert proxy.post("/mixllm/feedback", json={**thumb, "reward": 7}).status_code == 400
    assert proxy.post("/mixllm/feedback", json={**thumb, "id": "nobody's"}).status_code == 400


def test_the_proxy_lets_nobody_teach_without_its_key(proxy: httpx.Client) -> None:
    thumb = {"id": "mixllm-0", "reward": 1.0}
    for headers in ({"Authorization": ""}, {"Authorization": "Bearer sk-wrong"}):
        refused = proxy.post("/mixllm/feedback", json=thumb, headers=headers)
        # without a database LiteLLM can't tell an unknown key from one that it has to look up
        assert refused.status_code in (400, 401, 500)
        assert "no decision" not in refused.text


def test_what_is_wrong_is_told(proxy: httpx.Client) -> None:
    response = proxy.post("/v1/chat/completions", json=asked(metadata={"mixllm": {"force": "nobody"}}))
    assert response.status_code == 400
    assert "unknown candidate 'nobody'; the pool has 'cheap', 'dear'" in response.json()["error"]["message"]
