"""HTML from elements. Text is escaped unless an element made it, so that no name of a system or an LLM becomes code."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

_VOID = frozenset({"br", "meta", "img", "wbr"})


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Child = str | Iterable[str]


def element(name: str, /, *children: Child, **attributes: str | None) -> Markup:
    """Make an element; a trailing underscore of an attribute goes, others become hyphens, and ``None`` leaves it out.

    Examples
    --------
    >>> element("p", "a < b", element("br"), class_="note")
    '<p class="note">a &lt; b<br></p>'
    """
    given = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items() if value is not None}
    told = "".join(f' {key}="{escape(value)}"' for key, value in given.items())
    opening = f"<{name}{told}>"
    return Markup(opening) if name in _VOID else Markup(f"{opening}{joined(*children)}</{name}>")


def joined(*children: Child) -> Markup:
    """Escape what is not markup, and join everything."""
    parts: list[str] = []
    for child in children:
        parts.extend([child] if isinstance(child, str) else child)
    return Markup("".join(part if isinstance(part, Markup) else escape(part) for part in parts))
