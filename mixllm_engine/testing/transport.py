"""Sockets and HTTP for the scripted server: carries out behaviours, and notices clients that go away.

One daemon thread per connection. An answer that waits looks at its socket every few hundredths of a second, so a client
that disconnects is seen even while nothing is being sent.
"""

from __future__ import annotations

import contextlib
import json
import math
import selectors
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, TypeAlias

from mixllm_engine.testing import wire
from mixllm_engine.testing.behaviours import Behaviour, Cut, Failure, Hang, Malformed, RecordedRequest, Reply
from mixllm_engine.testing.journal import Journal
from mixllm_engine.testing.request_check import InvalidRequestError, check

_CHAT_PATH = "/v1/chat/completions"
_POLL_S = 0.05  # how often a waiting answer looks for a vanished client or a closed server
_JOIN_S = 2.0  # how long stop() waits for connections to end
_Socket: TypeAlias = socket.socket | tuple[bytes, socket.socket]  # what socketserver calls a request


class HttpServer(ThreadingHTTPServer):
    """Listens on a free port of 127.0.0.1 and answers as ``choose`` says.

    Parameters
    ----------
    journal : Journal
        Where requests are recorded.
    choose : callable
        Gives the behaviour for a valid request.

    Attributes
    ----------
    closing : threading.Event
        Set once the server is being stopped.
    mistakes : list of BaseException
        Errors that are nobody's connection trouble, such as an exception in a user's script.
    """

    daemon_threads = True
    timeout = 0  # handle_request doesn't wait: _accept does
    request_queue_size = 256  # many clients may connect at once; socketserver's 5 would make them wait

    def __init__(self, journal: Journal, choose: Callable[[RecordedRequest], Behaviour]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.journal = journal
        self.choose = choose
        self.closing = threading.Event()
        self.mistakes: list[BaseException] = []
        self._lock = threading.Lock()
        self._connections: dict[threading.Thread, socket.socket] = {}
        self._wake, self._woken = socket.socketpair()
        self._acceptor = threading.Thread(target=self._accept, name="scripted-server", daemon=True)

    def server_bind(self) -> None:
        """Bind without HTTPServer's reverse DNS look-up, which can take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", int(self.server_address[1])

    def start(self) -> None:
        """Begin to accept connections."""
        self._acceptor.start()

    def stop(self) -> None:
        """Stop accepting, break off what is under way, and wait for the threads."""
        self.closing.set()
        self._wake.close()
        self._acceptor.join()
        self._woken.close()
        self.server_close()
        with self._lock:
            connections = dict(self._connections)
        for connection in connections.values():
            _hang_up(connection)
        deadline = time.monotonic() + _JOIN_S
        for thread in connections:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _accept(self) -> None:
        # Not serve_forever: its shutdown() waits for the next poll, which adds up over a test suite.
        with selectors.DefaultSelector() as selector:
            selector.register(self, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while not self.closing.is_set():
                selector.select()
                self.handle_request()

    def process_request(self, request: _Socket, client_address: Any) -> None:
        """Answer one connection in a thread of its own, which `stop` can find again."""
        assert isinstance(request, socket.socket)
        name, arguments = "scripted-server-connection", (request, client_address)
        thread = threading.Thread(target=self._serve_connection, args=arguments, name=name, daemon=True)
        with self._lock:
            self._connections[thread] = request
        thread.start()

    def _serve_connection(self, request: socket.socket, client_address: Any) -> None:
        try:
            self.process_request_thread(request, client_address)
        finally:
            with self._lock:
                del self._connections[threading.current_thread()]

    def handle_error(self, request: _Socket, client_address: Any) -> None:
        """Keep the error at hand instead of printing it; lost connections are none."""
        error = sys.exception()
        if error is not None and not isinstance(error, ConnectionError):
            self.mistakes.append(error)


class _ClientGoneError(ConnectionError):
    """The client closed its connection while an answer was due."""


class _ServerClosingError(ConnectionError):
    """The server is being stopped."""


class _Handler(BaseHTTPRequestHandler):
    """One connection: reads requests, records them, and carries out behaviours."""

    server: HttpServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else small chunks wait for the client's delayed acknowledgement
    wbufsize = -1  # buffered, so that headers and body leave together

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        body = _parse(self.rfile.read(int(length)) if length.isdecimal() else b"")
        self.close_connection |= not length.isdecimal()  # a body of unknown length would be taken for the next request
        request = _describe(self.path, body, self.headers.get("Authorization", ""))
        self._serial = self.server.journal.add(request)
        refusal = _refuse(request, body)
        # Outside the try: an error in a user's script is no connection trouble, whatever its class.
        behaviour = self.server.choose(request) if refusal is None else None
        try:
            if refusal is not None:
                self._send_json(400 if request.path == _CHAT_PATH else 404, refusal)
            elif behaviour is not None:
                self._carry_out(behaviour, request)
        except _ServerClosingError:
            self.close_connection = True
        except OSError:
            self.close_connection = True
            # A socket that stop() shut down looks just like one that the client closed.
            self._mark(finished=False, disconnected=not self.server.closing.is_set())

    def _carry_out(self, behaviour: Behaviour, request: RecordedRequest) -> None:
        match behaviour:
            case Reply():
                self._pause(behaviour.delay_s)
                (self._stream_reply if request.stream else self._send_reply)(behaviour, request)
            case Failure():
                self._pause(behaviour.delay_s)
                self._send_json(behaviour.status, wire.error(behaviour), _retry_headers(behaviour.retry_after_s))
            case Cut():
                self._pause(0)
                (self._stream_cut if request.stream else self._send_cut)(behaviour, request)
            case Malformed():
                self._pause(0)
                self._send_malformed(behaviour, request)
            case Hang():
                self._pause(behaviour.seconds)
                self._mark(finished=True)
                self.close_connection = True

    def _send_reply(self, reply: Reply, request: RecordedRequest) -> None:
        envelope = _envelope(request)
        pieces = sum(1 for _ in wire.tokens(reply, envelope, include_usage=False))
        self._pause(reply.token_delay_s * max(0, pieces - 1))
        self._send_json(200, wire.completion(reply, envelope))

    def _stream_reply(self, reply: Reply, request: RecordedRequest) -> None:
        envelope, include_usage = _envelope(request), _wants_usage(request)
        self._begin_stream()
        self._send_event(wire.opening(reply, envelope, include_usage=include_usage))
        for index, chunk in enumerate(wire.tokens(reply, envelope, include_usage=include_usage)):
            self._pause(reply.token_delay_s if index else 0)
            self._send_event(chunk)
        for chunk in wire.closing(reply, envelope, include_usage=include_usage):
            self._send_event(chunk)
        self._send_last(_http_chunk(b"data: [DONE]\n\n") + _http_chunk(b""))

    def _send_cut(self, cut: Cut, request: RecordedRequest) -> None:
        whole = _dump(wire.completion(Reply(text=cut.text), _envelope(request)))
        half = whole[: len(whole) // 2]
        self._begin(200, {"Content-Type": "application/json", "Content-Length": str(len(half if cut.clean else whole))})
        self._send_last(half)
        self.close_connection = True

    def _stream_cut(self, cut: Cut, request: RecordedRequest) -> None:
        envelope, reply = _envelope(request), Reply(text=cut.text)
        self._begin_stream()
        self._send_event(wire.opening(reply, envelope, include_usage=False))
        for chunk in list(wire.tokens(reply, envelope, include_usage=False))[: cut.after_tokens]:
            self._send_event(chunk)
        self._send_last(_http_chunk(b"") if cut.clean else b"")
        self.close_connection = True

    def _send_malformed(self, malformed: Malformed, request: RecordedRequest) -> None:
        body = malformed.body.encode()
        if request.stream:
            self._begin_stream()
            self._send_last(_http_chunk(b"data: " + body + b"\n\n") + _http_chunk(b""))
        else:
            self._begin(200, {"Content-Type": "application/json", "Content-Length": str(len(body))})
            self._send_last(body)

    def _send_json(self, status: int, content: wire.Json, headers: Mapping[str, str] | None = None) -> None:
        body = _dump(content)
        fixed = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        self._begin(status, {**fixed, **(headers or {})})
        self._send_last(body)

    def _begin_stream(self) -> None:
        self._begin(200, {"Content-Type": "text/event-stream; charset=utf-8", "Transfer-Encoding": "chunked"})

    def _begin(self, status: int, headers: Mapping[str, str]) -> None:
        self._mark(status=status)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _send_event(self, chunk: wire.Json) -> None:
        self.wfile.write(_http_chunk(b"data: " + _dump(chunk) + b"\n\n"))
        self.wfile.flush()

    def _send_last(self, data: bytes) -> None:
        # Marked first: once the client has the last byte, a test may look at the record at once.
        self._mark(finished=True)
        self.wfile.write(data)
        self.wfile.flush()

    def _mark(self, **changes: bool | int) -> None:
        self.server.journal.mark(self._serial, **changes)

    def _pause(self, seconds: float) -> None:
        """Wait, but not for a client that is gone or a server that is closing."""
        deadline = time.monotonic() + seconds
        while True:
            if self.server.closing.wait(max(0.0, min(_POLL_S, deadline - time.monotonic()))):
                raise _ServerClosingError
            if _is_closed_by_peer(self.connection):
                raise _ClientGoneError
            if time.monotonic() >= deadline:
                return


def _is_closed_by_peer(connection: socket.socket) -> bool:
    timeout = connection.gettimeout()
    connection.setblocking(False)
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False  # open, and nothing to read: the usual case
    except OSError:
        return True
    finally:
        connection.settimeout(timeout)


def _hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # closed already
        connection.shutdown(socket.SHUT_RDWR)  # wakes a thread that waits for the next request


def _parse(raw: bytes) -> wire.Json | None:
    try:
        body = json.loads(raw)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _describe(path: str, body: wire.Json | None, authorization: str) -> RecordedRequest:
    content = body or {}
    model, (scheme, _, token) = content.get("model"), authorization.partition(" ")
    return RecordedRequest(
        model=model if isinstance(model, str) else "",
        body=content,
        path=path,
        stream=content.get("stream") is True,
        api_key=token if scheme.lower() == "bearer" else None,
    )


def _refuse(request: RecordedRequest, body: wire.Json | None) -> wire.Json | None:
    """Return the error object for a request that the real API would not take."""
    if request.path != _CHAT_PATH:
        return wire.error(Failure(status=404, message=f"Invalid URL (POST {request.path})", code="unknown_url"))
    try:
        if body is None:
            raise InvalidRequestError("We could not parse the JSON body of your request: it must be a JSON object.")
        check(body)
    except InvalidRequestError as fault:
        return wire.error(Failure(status=400, message=str(fault)), param=fault.param)
    return None


def _envelope(request: RecordedRequest) -> wire.Envelope:
    return wire.Envelope(id=f"chatcmpl-{uuid.uuid4().hex}", created=int(time.time()), model=request.model)


def _wants_usage(request: RecordedRequest) -> bool:
    options = request.body.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def _retry_headers(retry_after_s: float | None) -> dict[str, str]:
    if retry_after_s is None:
        return {}
    return {"Retry-After": str(math.ceil(retry_after_s)), "Retry-After-Ms": str(round(retry_after_s * 1000))}


def _dump(content: wire.Json) -> bytes:
    return json.dumps(content, ensure_ascii=False).encode()


def _http_chunk(data: bytes) -> bytes:
    """Frame data for the chunked transfer encoding; empty data ends the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)
