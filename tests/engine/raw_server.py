"""A server that answers with bytes of one's choice, for answers that the scripted server is too orderly to give."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# Writes an answer, and closes the connection by returning.
Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """One request a connection."""

    answer: Answer

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        type(self).answer(self)

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Stay silent about clients that have gone away."""


@contextmanager
def raw_server(answer: Answer) -> Iterator[str]:
    """Answer every request on a free port of 127.0.0.1 in one way; yields the address for a candidate."""
    own = type("OwnHandler", (Handler,), {"answer": staticmethod(answer)})
    with _Server(("127.0.0.1", 0), own) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        finally:
            server.shutdown()
            thread.join()


def body(content: str, kind: str = "application/json", status: int = 200) -> Answer:
    """Return an answer with a body and its right length."""
    data = content.encode()

    def send(handler: Handler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    return send


def drip(content: str, every_s: float, kind: str = "application/json") -> Answer:
    """Return an answer whose bytes come one by one."""

    def send(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", kind)
        handler.end_headers()
        for byte in content.encode():
            handler.wfile.write(bytes([byte]))
            time.sleep(every_s)

    return send


def completion(**more: object) -> str:
    """Return a right answer in OpenAI's form, with some of it replaced."""
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hi there"}, "finish_reason": "stop"}
    usual = {"id": "x", "object": "chat.completion", "created": 1, "model": "cheap", "choices": [choice]}
    return json.dumps({**usual, **more})


# What no client can take for an answer, although its status is 200 where nothing else is said.
WRONG: dict[str, Answer] = {
    "a page": body("<html>busy</html>", "text/html"),
    "a page called JSON": body("<html>busy</html>"),
    "half a JSON object": body(completion()[:60]),
    "half an event": body('data: {"id": "x", "obj\n\n', "text/event-stream"),
    "an empty body": body(""),
    "no event": body("", "text/event-stream"),
    "an end without an answer": body("data: [DONE]\n\n", "text/event-stream"),
    "an empty object": body("{}"),
    "a list": body("[]"),
    "no choices": body(completion(choices=[])),
    "no message": body(completion(choices=[{"index": 0, "finish_reason": "stop"}])),
    "an error object": body('{"error": {"message": "overloaded", "type": "server_error", "code": null}}'),
    "an error event": body('data: {"error": {"message": "overloaded", "code": 500}}\n\n', "text/event-stream"),
    "nothing to come": body("", status=204),
    "the page of a proxy": body("<html>bad gateway</html>", "text/html", 502),
}
