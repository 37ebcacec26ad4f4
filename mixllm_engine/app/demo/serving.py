"""Who may come in: the guard in front of every route, and the server.

On a loopback address everybody on this machine may come, but only under a name of this machine: a page elsewhere that
lets its own name point here (DNS rebinding) is refused. Anywhere else a token is needed. No request is logged.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import logging
import re
import secrets
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

from mixllm_engine.errors import ConfigError

if TYPE_CHECKING:
    import uvicorn

    from mixllm_engine.app.demo.visits import Visits

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_LOCAL_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~-]{8,}")  # what a link and a cookie carry as it is
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
# Everything comes from this server: no script, style, font or picture from elsewhere, and no page around this one.
_POLICY: Final = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'none'"
)
_HEADERS: Final = (
    (b"content-security-policy", _POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)
_PAGE: Final = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    '<meta name="color-scheme" content="light dark">{head}<title>MixLLM</title>'
    '<body style="font:16px/1.5 system-ui,sans-serif;max-width:34rem;margin:12vh auto;padding:0 1rem"><p>{text}</p>'
)
_REFUSED: Final = "This page needs the link that was printed where the demonstration was started, with its token."
_WELCOME: Final = 'Welcome. <a href="{path}">Go on to the page</a>.'


@dataclass(frozen=True, kw_only=True)
class Access:
    """Who may come in.

    Attributes
    ----------
    host : str
        The address that the server is bound to.
    port : int
        Its port.
    token : str or None
        What everybody has to know; ``None`` = whoever is on this machine may come.
    """

    host: str
    port: int
    token: str | None

    @classmethod
    def of(cls, host: str, port: int, token: str | None) -> Access:
        """Check what was given, and make a token where one is needed.

        Raises
        ------
        ConfigError
            If the token is too short to be one, or has signs that a link can't carry.
        """
        if token is not None and not _TOKEN.fullmatch(token):
            raise ConfigError(
                "the token must have at least 8 letters, digits or signs of -._~; leave it out to have one made"
            )
        if token is None and not is_loopback(host):
            token = secrets.token_urlsafe(24)
        return cls(host=host, port=port, token=token)

    @property
    def cookie(self) -> str:
        """The name of the cookie; browsers share cookies among the ports of a host."""
        return f"mixllm_demo_{self.port}"

    @property
    def link(self) -> str:
        """The address to open, with the token where there is one."""
        host = self.host if is_loopback(self.host) else _reachable(self.host)
        there = f"[{host}]" if ":" in host else host
        return f"http://{there}:{self.port}/" + (f"?token={self.token}" if self.token else "")

    def admits(self, given: str | None) -> bool:
        """Compare a token in a time that does not depend on it."""
        if self.token is None:
            return True
        return hmac.compare_digest((given or "").encode("utf-8", "replace"), self.token.encode())

    def knows(self, name: str) -> bool:
        """Tell whether this machine may be called so."""
        return not is_loopback(self.host) or name in _LOCAL_NAMES or name == self.host.lower()


def is_loopback(host: str) -> bool:
    """Tell whether an address is reached from this machine only.

    Examples
    --------
    >>> is_loopback("localhost"), is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0")
    (True, True, True, False)
    """
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _reachable(host: str) -> str:
    """Return a name under which others reach an address that stands for all of a machine's."""
    try:
        return socket.gethostname() if ipaddress.ip_address(host).is_unspecified else host
    except ValueError:
        return host


class Guard:
    """Stand before an application and let in who may come; what it lets through gets headers that keep it to itself.

    Parameters
    ----------
    app : callable
        The application behind.
    access : Access
        Who may come.
    """

    def __init__(self, app: App, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refused = self._refusal(scope, headers)
        if scope["type"] == "websocket":
            if refused:
                await send({"type": "websocket.close", "code": 1008})
                return
            await self._app(scope, receive, send)
            return
        if refused:
            await _page(send, *refused)
            return
        given = _token_in(scope)
        if given is not None and self._access.token is not None:
            await self._welcome(scope, send, given)
            return
        await self._app(scope, receive, _with_headers(send))

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if not self._access.knows(_name(host)):
            return 421, "This server does not go by that name."
        origin = headers.get("origin")
        unsafe = scope["type"] == "websocket" or scope["method"] not in _SAFE_METHODS
        if origin is not None and unsafe and urlsplit(origin).netloc.lower() != host.lower():
            return 403, "Another page may not send anything here."
        if self._access.admits(_cookie(headers.get("cookie", ""), self._access.cookie)):
            return None
        if scope["type"] == "http" and scope["method"] == "GET" and self._access.admits(_token_in(scope)):
            return None
        return 401, _REFUSED

    async def _welcome(self, scope: Scope, send: Send, given: str) -> None:
        """Put a token that came in a link into a cookie, and go on without it.

        By a page that goes on itself, not by a redirect: a browser sends no SameSite=Strict cookie with a redirect
        that another site's link has led to.
        """
        if not self._access.admits(given):
            await _page(send, 401, _REFUSED)
            return
        path = "/" if not scope["path"].startswith("/") or scope["path"].startswith("//") else scope["path"]
        path = path if path.replace("/", "").isalnum() else "/"
        cookie = f"{self._access.cookie}={self._access.token}; HttpOnly; SameSite=Strict; Path=/"
        head = f'<meta http-equiv="refresh" content="0;url={path}">'
        await _page(send, 200, _WELCOME.format(path=path), head, [(b"set-cookie", cookie.encode())])


def _name(host: str) -> str:
    """Return the name in a Host header, without the port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _token_in(scope: Scope) -> str | None:
    """Return the token of a link."""
    found = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token")
    return found[0] if found else None


def _cookie(header: str, name: str) -> str | None:
    try:
        found = SimpleCookie(header).get(name)
    except CookieError:
        return None
    return None if found is None else found.value


def _with_headers(send: Send) -> Send:
    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *_HEADERS]
        await send(message)

    return sending


async def _page(
    send: Send, status: int, text: str, head: str = "", more: list[tuple[bytes, bytes]] | None = None
) -> None:
    body = _PAGE.format(text=text, head=head).encode()
    headers = [
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        *_HEADERS,
        *(more or ()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def application(visits: Visits, access: Access) -> App:
    """Return the whole application: the page behind the guard."""
    import gradio as gr
    from fastapi import FastAPI

    from mixllm_engine.app.demo.page import build, style, theme

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    gr.mount_gradio_app(
        app,
        build(visits),
        path="/",
        server_name=access.host,
        server_port=access.port,
        app_kwargs={"docs_url": None, "redoc_url": None, "openapi_url": None},
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size="1kb",
        ssr_mode=False,
        enable_monitoring=False,
        mcp_server=False,
        theme=theme(),
        css=style(),
    )
    return Guard(app, access)


def bound(host: str, port: int) -> socket.socket:
    """Take a port, without answering there yet.

    Raises
    ------
    ConfigError
        If the address or the port can't be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        taken = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError(f"there is no address {host!r} here: {error.strerror}") from error
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
    except OSError as error:
        taken.close()
        raise ConfigError(
            f"port {port} of {host} can't be had ({error.strerror}); choose another one: --port"
        ) from error
    return taken


def server(app: App, ready: Callable[[], None]) -> uvicorn.Server:
    """Return a server that calls `ready` as soon as somebody may come; Ctrl-C ends its `run`.

    No request is logged: a link carries the token, and what is asked is nobody else's business.
    """
    import uvicorn

    # What Ctrl-C cuts off is no error of the server's.
    logging.getLogger("uvicorn.error").addFilter(
        lambda record: not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))
    )

    class Announced(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready()

    return Announced(
        uvicorn.Config(
            app,
            access_log=False,
            log_level="warning",
            server_header=False,
            timeout_graceful_shutdown=1,
            ws="none",
        )
    )
