"""How a command ends: its exit code, and what went wrong in one line without secrets.

====  ==============================================================================
code  meaning
====  ==============================================================================
0     done
1     an error, said in one line on standard error; or the reader of a pipe has left
2     wrong usage
130   interrupted
====  ==============================================================================
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import Final, cast

import typer

from mixllm_engine.errors import MixLLMError
from mixllm_engine.redaction import HIDDEN, without_password

FAILED: Final = 1
INTERRUPTED: Final = 130
EXIT_CODES: Final = (
    "Exit codes: 0 done; 1 an error, said in one line on standard error; 2 wrong usage; 130 interrupted."
)

# The name of an extra, by what it brings.
_EXTRAS: Final = {
    "gradio": "demo",
    "langchain_core": "langchain",
    "langchain_litellm": "langchain",
    "mabwiser": "evaluate",
    "matplotlib": "evaluate",
    "pandas": "evaluate",
    "paretobandit": "evaluate",
    "psycopg": "postgres",
    "pyarrow": "evaluate",
    "sklearn": "evaluate",
    "torch": "train",
}
_STORES: Final = ("MIXLLM_STORE", "MIXLLM_BENCH_POSTGRES_URL")
_USER: Final = re.compile(r"://\S*@")
# Typer has its own copy of click's errors, or uses click itself: either way this one's bases are those of wrong usage.
_UsageError: Final = cast("type[typer.BadParameter]", typer.BadParameter.__bases__[0])


def run(app: typer.Typer, arguments: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit code.

    Parameters
    ----------
    app : typer.Typer
        The commands.
    arguments : sequence of str, optional
        What was typed after the program's name; ``sys.argv`` where not given.
    """
    typed = sys.argv[1:] if arguments is None else list(arguments)
    try:
        return int(app(typed, prog_name="mixllm", standalone_mode=False) or 0)
    except _UsageError as error:
        vars(error)["message"] = hidden(str(vars(error).get("message", error)), typed)
        return _wrong_usage(error)
    except ImportError as error:
        if (said := _missing(error)) is None:
            raise
        return _failed(said, typed)
    except (MixLLMError, OSError) as error:
        return _failed(str(error), typed)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED


def hidden(text: str, typed: Sequence[str]) -> str:
    """Return a text without the passwords of addresses, among them those that were typed or stand in the environment.

    Examples
    --------
    >>> hidden("can't reach postgresql://ada:1234@host/db", [])
    "can't reach postgresql://***@host/db"
    """
    for word in (*typed, *(os.environ.get(name, "") for name in _STORES)):
        if "://" in word:
            text = text.replace(word, without_password(word))
    return _USER.sub(f"://{HIDDEN}@", text)


def _wrong_usage(error: typer.BadParameter) -> int:
    error.show()
    return int(error.exit_code)


def _failed(said: str, typed: Sequence[str]) -> int:
    typer.echo(f"mixllm: {' '.join(hidden(said, typed).split())}", err=True)
    return FAILED


def _missing(error: ImportError) -> str | None:
    """Say how to install what is missing; ``None`` where no extra brings it, which is an error of a program."""
    said = str(error)
    if "pip install" in said:
        return said
    extra = _EXTRAS.get((error.name or "").partition(".")[0])
    return None if extra is None else f'{said}: pip install "mixllm[{extra}]"'
