"""Prompts over many fields, each with a tag: what the packaged encoder and the general feature map are trained on.

They were written for MixLLM, with the help of a language model, and are under its licence; no benchmark's text is among
them. ``general/domains.json`` puts their tags into coarse domains.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

from mixllm_engine.encoding.domains import Domains
from mixllm_engine.errors import ConfigError

_FOLDER = Path(__file__).parent / "general"
# An encoder that a package doesn't carry has to encode prompts before its first decision: five of each tag are enough.
_FEW_OF_EACH = 8


class TaggedPrompts(NamedTuple):
    """Prompts and the tag of each."""

    texts: tuple[str, ...]
    tags: tuple[str, ...]


@cache
def tagged_prompts() -> TaggedPrompts:
    """Return all prompts, by file and tag."""
    lines = [line for path in sorted(_FOLDER.glob("*.tsv")) for line in path.read_text(encoding="utf-8").splitlines()]
    tags, texts = zip(*(line.split("\t") for line in lines), strict=True)
    return TaggedPrompts(texts=tuple(re.sub(r"\\(.)", _unescaped, text) for text in texts), tags=tags)


@cache
def few_prompts() -> TaggedPrompts:
    """Return every eighth prompt: some of each tag."""
    every = tagged_prompts()
    return TaggedPrompts(texts=every.texts[::_FEW_OF_EACH], tags=every.tags[::_FEW_OF_EACH])


@cache
def general_domains() -> Domains:
    """Return the domains of the tags; every tag has one."""
    tags = set(tagged_prompts().tags)
    domains = Domains.load(_FOLDER / "domains.json", known=tags)
    homeless = sorted(tag for tag in tags if domains.of([tag]) is None)
    if homeless:
        raise ConfigError(f"domains.json has no domain for the tags {homeless[:5]}: add each to one")
    return domains


def _unescaped(match: re.Match[str]) -> str:
    return "\n" if match[1] == "n" else match[1]
