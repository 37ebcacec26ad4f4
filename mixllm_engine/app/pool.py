"""A pool as a command is given it: by LiteLLM's model names, or described in a TOML file.

The file has a table for each candidate::

    [[candidate]]
    name = "local"
    model = "openai/smollm2"
    api_base = "http://127.0.0.1:8101/v1"
    input_usd_per_mtok = 0.02
    output_usd_per_mtok = 0.04
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from mixllm_engine.errors import CandidateError
from mixllm_engine.loading import read_file
from mixllm_engine.types import Candidate

_FIELDS: Final = tuple(field.name for field in dataclasses.fields(Candidate) if field.name != "api_key")
_MOST_BYTES: Final = 2**20  # of a file that a person writes


def read_candidates(models: Sequence[str], pool: Path | None) -> list[str | Candidate]:
    """Return models and the candidates of a file.

    Raises
    ------
    CandidateError
        If the file can't be read, or describes something else.
    """
    if pool is None:
        return list(models)
    try:
        tables = tomllib.loads(read_file(pool, most_bytes=_MOST_BYTES).decode()).get("candidate")
    except (OSError, ValueError, RecursionError) as error:  # ValueError: neither UTF-8 nor TOML, or a huge number
        raise CandidateError(f"the pool {str(pool)!r} can't be read: {error}") from error
    if not isinstance(tables, list) or not all(isinstance(one, dict) for one in tables):
        raise CandidateError(f"the pool {str(pool)!r} has no [[candidate]] tables")
    return [*models, *(_candidate(one, pool) for one in tables)]


def _candidate(table: Mapping[str, Any], pool: Path) -> Candidate:
    if unknown := table.keys() - set(_FIELDS):
        hint = "; keys belong into the environment" if "api_key" in unknown else ""
        raise CandidateError(
            f"{str(pool)!r} says {', '.join(sorted(unknown))} of a candidate; allowed: {', '.join(_FIELDS)}{hint}"
        )
    if missing := {"name", "model"} - table.keys():
        raise CandidateError(f"a candidate in {str(pool)!r} has no {' and no '.join(sorted(missing))}")
    return Candidate(**table)
