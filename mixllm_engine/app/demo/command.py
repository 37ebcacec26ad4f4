"""``mixllm demo``: learn, open the port, say where it is."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from mixllm_engine.app.demo.visits import Visits

_NEEDED: Final = 'the demonstration needs Gradio and matplotlib: pip install "mixllm[demo]"'


def demo(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes any that is free.")] = 7860,
    host: Annotated[
        str, typer.Option(help="Address to be reached at; beyond this machine everybody needs the token.")
    ] = "127.0.0.1",
    token: Annotated[
        str | None,
        typer.Option(envvar="MIXLLM_DEMO_TOKEN", help="Token of the link; made where one is needed and not given."),
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Show the router at work in a browser.

    Ask, see why, judge, and watch it learn. No key is needed.
    """
    from mixllm_engine.app.demo.serving import Access, application, bound, server

    need_packages()
    with closing(bound(host, port)) as taken:  # said before the seconds that learning takes
        access = Access.of(host, taken.getsockname()[1], token)
        from mixllm_engine.app.demo.stage import prepare
        from mixllm_engine.app.demo.visits import Visits

        def ready() -> None:
            typer.echo(f"MixLLM demo: {access.link}  (Ctrl-C ends it)")
            if open_:
                typer.launch(access.link)

        try:
            with _ended_like_ctrl_c(), closing(prepare(typer.echo)) as stage, closing(Visits(stage)) as visits:
                rehearse(visits)
                server(application(visits, access), ready).run(sockets=[taken])
        except KeyboardInterrupt:
            pass
        typer.echo("ended")


@contextmanager
def _ended_like_ctrl_c() -> Iterator[None]:
    """Let SIGTERM end the demonstration as Ctrl-C does, so that nothing is left behind."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def need_packages() -> None:
    """Keep Gradio from calling home, and say what to install, in an `ImportError`, where a package is missing."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio  # noqa: F401
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(_NEEDED) from error


def rehearse(visits: Visits) -> None:
    """Do once what visitors do, so that none of them waits for what is loaded on first use."""
    from mixllm_engine.app.demo.drawings import curve

    visit = visits.of(visits.new_key())
    for _ in visit.run(2, "medium"):
        curve(visit.curve())
    visits.close()
