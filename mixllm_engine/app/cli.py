"""The command line ``mixllm``: measure, look into a store, and give feedback from any process.

Each command is a module of its own; how they end, and with which exit code, says `mixllm_engine.app.ending`. What is
heavy is imported by the command that needs it, so that ``--help`` and shell completion answer at once.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from mixllm_engine import __version__
from mixllm_engine.app.bench import bench
from mixllm_engine.app.demo.command import demo
from mixllm_engine.app.ending import EXIT_CODES, run
from mixllm_engine.app.evaluate import evaluate
from mixllm_engine.app.explaining import explain
from mixllm_engine.app.fitting import fit
from mixllm_engine.app.judging import feedback
from mixllm_engine.app.listing import candidates
from mixllm_engine.app.moving import export_, import_
from mixllm_engine.app.printing import on_terminal
from mixllm_engine.app.shadow import shadow
from mixllm_engine.app.stats import stats

app = typer.Typer(
    help="MixLLM: route every query to the LLM that suits it best, and learn from what comes back.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich" if on_terminal() else None,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"mixllm {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Take what stands before a command."""


app.command()(fit)
app.command()(candidates)
app.command()(stats)
app.command()(explain)
# -1 is a reward that is out of range, not an option.
app.command(context_settings={"ignore_unknown_options": True})(feedback)
app.command("export")(export_)
app.command("import")(import_)
app.command()(evaluate)
app.command()(shadow)
app.command()(bench)
app.command()(demo)


def main() -> None:
    """Run the command line."""
    sys.exit(run(app))


if __name__ == "__main__":
    main()
