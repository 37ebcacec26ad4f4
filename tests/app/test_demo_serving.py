"""Who may come in, and what is said of it."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import closing

import httpx
import pytest

from mixllm_engine.app.demo.serving import Access, App, Guard, Receive, Scope, Send, application, bound, server
from mixllm_engine.app.demo.visits import Visits
from mixllm_engine.errors import ConfigError
from tests.app.demo_stage import OWN, make_stage

TOKEN = "a-token-of-sixteen-signs"


async def _inner(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"inside"})


def client(access: Access, app: App = _inner, name: str = "127.0.0.1:7860", **settings: object) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=Guard(app, access))
    return httpx.AsyncClient(transport=transport, base_url=f"http://{name}", **settings)  # type: ignore[arg-type]


def local() -> Access:
    return Access.of("127.0.0.1", 7860, None)


def public() -> Access:
    return Access.of("0.0.0.0", 7860, TOKEN)


# -- the token -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.7"])
def test_on_this_machine_no_token_is_needed(host: str) -> None:
    access = Access.of(host, 7860, None)
    assert access.token is None and access.admits(None)
    assert access.link == f"http://{f'[{host}]' if ':' in host else host}:7860/"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "demo.example"])
def test_anywhere_else_a_token_is_made_and_is_in_the_link(host: str) -> None:
    first, second = Access.of(host, 7860, None), Access.of(host, 7860, None)
    assert first.token is not None and len(first.token) >= 32 and first.token != second.token
    assert first.link.endswith(f":7860/?token={first.token}") and "0.0.0.0" not in first.link
    assert first.admits(first.token) and not first.admits(second.token) and not first.admits(None)
    assert not first.admits("\ud800") and not first.admits("ä")


@pytest.mark.parametrize("token", ["", "short", "with space in it", "semi;colons;here", "ümläuts-here", "a" * 7])
def test_tokens_that_are_none_are_refused(token: str) -> None:
    with pytest.raises(ConfigError, match="at least 8 letters"):
        Access.of("127.0.0.1", 7860, token)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/config"),
        ("POST", "/gradio_api/queue/join"),
        ("GET", "/gradio_api/queue/data?session_hash=x"),
        ("POST", "/gradio_api/upload"),
        ("GET", "/gradio_api/file=/etc/passwd"),
        ("POST", "/?token=" + TOKEN),  # a link is opened, never posted to
        ("GET", "/?token=wrong-wrong-wrong"),
    ],
)
async def test_without_the_token_nothing_is_served(method: str, path: str) -> None:
    async with client(public()) as there:
        answer = await there.request(method, path)
    assert answer.status_code == 401 and "link that was printed" in answer.text and "inside" not in answer.text
    assert TOKEN not in answer.text and "set-cookie" not in answer.headers


async def test_the_link_sets_a_cookie_that_opens_all(monkeypatch: pytest.MonkeyPatch) -> None:
    async with client(public()) as there:
        welcome = await there.get("/", params={"token": TOKEN})
        assert welcome.status_code == 200 and TOKEN not in welcome.text
        cookie = welcome.headers["set-cookie"]
        assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and "Path=/" in cookie
        assert 'content="0;url=/"' in welcome.text and welcome.headers["referrer-policy"] == "no-referrer"
        inside = await there.post("/gradio_api/queue/join")
        assert inside.text == "inside" and inside.headers["x-frame-options"] == "DENY"
        assert "default-src 'self'" in inside.headers["content-security-policy"]
        again = await there.get("/", params={"token": TOKEN})
        assert again.status_code == 200 and "inside" not in again.text


async def test_a_wrong_cookie_is_none() -> None:
    async with client(public(), cookies={"mixllm_demo_7860": TOKEN + "x"}) as there:
        assert (await there.get("/")).status_code == 401
    async with client(public(), headers={"cookie": 'mixllm_demo_7860="'}) as there:
        assert (await there.get("/")).status_code == 401


async def test_where_a_welcome_leads_is_on_this_server() -> None:
    async with client(public()) as there:
        for path in ("//evil.example/", '/a"><script>', "/%0d%0ax:y"):
            answer = await there.get(f"{path}?token={TOKEN}")
            assert answer.status_code in (200, 401)
            assert "evil" not in answer.text and "<script" not in answer.text


# -- names and origins -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["localhost:7860", "127.0.0.1:7860", "127.0.0.1", "[::1]:7860", "localhost:9999"])
async def test_names_of_this_machine_are_known(name: str) -> None:
    async with client(local()) as there:
        assert (await there.get("/", headers={"host": name})).text == "inside"


@pytest.mark.parametrize("name", ["evil.example", "127.0.0.1.evil.example:7860", "192.168.1.5:7860", "[", ""])
async def test_a_foreign_name_that_points_here_is_refused(name: str) -> None:
    async with client(local()) as there:
        answer = await there.get("/", headers={"host": name})
    assert answer.status_code == 421 and "inside" not in answer.text


@pytest.mark.parametrize(
    ("origin", "status"),
    [("http://127.0.0.1:7860", 200), ("https://evil.example", 403), ("http://127.0.0.1:9", 403), ("null", 403)],
)
async def test_other_pages_may_not_send_anything(origin: str, status: int) -> None:
    async with client(local()) as there:
        assert (await there.post("/", headers={"origin": origin})).status_code == status
        assert (await there.get("/", headers={"origin": origin})).status_code == 200


async def test_web_sockets_are_guarded_too() -> None:
    sent = []

    async def send(message):  # type: ignore[no-untyped-def]
        sent.append(message)

    async def receive():  # type: ignore[no-untyped-def]
        return {"type": "websocket.connect"}

    scope = {"type": "websocket", "headers": [(b"host", b"there")], "query_string": b"", "path": "/"}
    await Guard(_inner, public())(scope, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]


# -- the real application --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def visits() -> Iterator[Visits]:
    with closing(make_stage()) as stage, closing(Visits(stage)) as made:
        yield made


@pytest.fixture(scope="module")
def whole(visits: Visits) -> App:
    pytest.importorskip("gradio")
    return application(visits, public())


async def test_no_route_of_the_application_is_open(whole: App) -> None:
    transport = httpx.ASGITransport(app=whole)
    async with httpx.AsyncClient(transport=transport, base_url="http://demo.example") as there:
        for path in ("/", "/config", "/gradio_api/info", "/gradio_api/startup-events", "/theme.css", "/docs"):
            assert (await there.get(path)).status_code == 401


async def test_the_page_asks_nobody_else_and_has_no_way_around(whole: App) -> None:
    transport = httpx.ASGITransport(app=whole)
    async with httpx.AsyncClient(transport=transport, base_url="http://demo.example") as there:
        await there.get("/", params={"token": TOKEN})
        page = await there.get("/")
        assert page.status_code == 200 and "MixLLM" in page.text
        fetched = re.findall(r"""<(?:script|link|img)[^>]+(?:src|href)=["'](https?:)?//[^"']+""", page.text)
        assert fetched == [] and "fonts.g" not in page.text and "cdn" not in page.text.lower()
        for path in ("/docs", "/openapi.json", "/redoc"):  # Gradio shows the page under every name
            assert not re.search("swagger|redoc.standalone|operationId", (await there.get(path)).text)
        assert (await there.get("/gradio_api/info")).json()["named_endpoints"] == {}
        config = (await there.get("/config")).json()
        assert config["analytics_enabled"] is False and config["footer_links"] == []
        assert {one["api_visibility"] for one in config["dependencies"]} == {"private"}
        for name in ("sample", "query", "budget", "ask", "candidates", "choice", "answer", "source", "up", "down"):
            assert name in {one["props"].get("elem_id") for one in config["components"]}


# -- the server ------------------------------------------------------------------------------------------------------


def test_nothing_of_a_request_is_logged(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    ready = threading.Event()
    with closing(bound("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        made = server(Guard(_inner, Access.of("127.0.0.1", port, TOKEN)), ready.set)
        thread = threading.Thread(target=made.run, kwargs={"sockets": [taken]})
        thread.start()
        assert ready.wait(10)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as there:
            assert there.get("/", params={"token": TOKEN, "q": OWN}).status_code == 200
            assert there.post("/", content=OWN).text == "inside"
        made.should_exit = True
        thread.join(10)
        assert not thread.is_alive()
    said = "".join(capfd.readouterr()) + caplog.text
    assert TOKEN not in said and "France" not in said and "GET" not in said


def test_a_port_that_is_taken_is_said_before_anything_else() -> None:
    with closing(bound("127.0.0.1", 0)) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"port {port} of 127.0.0.1 can't be had .*--port"):
            bound("127.0.0.1", port)


def test_an_address_that_is_not_here_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(ConfigError, match="no address 'nowhere'.*Name or service not known"):
        bound("nowhere", 0)
