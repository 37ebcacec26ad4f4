"""Colours by role, for light and dark, and which system gets which.

The hues are Okabe and Ito's and Tol's, told apart with any kind of colour vision; lines differ in their dashes as well.

References
----------
Okabe and Ito (2008), "Color Universal Design". Tol (2021), "Colour schemes", SRON/EPS/TN/09-002.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from mixllm_engine.evaluation.report.model import Role

# role -> (light, dark); all light ones differ, so that a drawing's colours can be turned into CSS variables
COLOURS: Final = {
    "page": ("#fdfdfc", "#14171c"),
    "ink": ("#1b2330", "#e8ebf0"),
    "muted": ("#596474", "#a3adbb"),
    "faint": ("#e3e7ec", "#2c333d"),
    "others": ("#bcc4ce", "#4a5462"),
    "ours": ("#0b5fcc", "#63a8ff"),
    "rival-1": ("#cf5208", "#ff8f4d"),
    "rival-2": ("#07856a", "#35c9a3"),
    "rival-3": ("#ad3f93", "#e58ad0"),
    "rival-4": ("#8a6d00", "#d8b93c"),
    "rival-5": ("#6b4fc4", "#a993ff"),
    "rival-6": ("#7a4a2b", "#c99673"),
    "area-1": ("#33508f", "#6f8fdc"),
    "area-2": ("#8fcdee", "#a9dcf7"),
    "area-3": ("#12733a", "#3aa565"),
    "area-4": ("#dfcf7a", "#e6d98d"),
    "area-5": ("#c9606f", "#e27f8d"),
    "area-6": ("#48ab9b", "#57c4b2"),
    "area-7": ("#86255a", "#b9528c"),
}
AREAS: Final = 7


@dataclass(frozen=True, kw_only=True)
class Ink:
    """How a system's line is drawn: a colour by role, its width in points, its dashes, and whether it is named."""

    colour: str
    width: float
    dashes: tuple[float, ...] = ()
    named: bool = True


OTHERS: Final = Ink(colour="others", width=0.9, named=False)
_OWN: Final[dict[str, Ink]] = {
    "ours": Ink(colour="ours", width=2.6),
    "bound": Ink(colour="ink", width=1.3, dashes=(1.2, 1.6)),
}
_DASHES: Final[tuple[tuple[float, ...], ...]] = ((), (6, 2), (2, 1.5), (6, 2, 1.5, 2), (8, 2, 2, 2, 2, 2), (3, 3))
_RIVALS: Final = tuple(
    Ink(colour=f"rival-{place}", width=1.6, dashes=dashes) for place, dashes in enumerate(_DASHES, start=1)
)


def light(role: str) -> str:
    """Return a role's colour on paper."""
    return COLOURS[role][0]


def inks(systems: Iterable[tuple[str, Role]], fixed: Mapping[str, Ink] | None = None) -> dict[str, Ink]:
    """Give inks to systems in the order of their importance; when rivals' inks run out, the rest are thin and grey.

    Parameters
    ----------
    systems : iterable of (str, Role)
        Their names and roles.
    fixed : mapping of str to Ink, optional
        Inks that systems have already, so that a reader finds them again.
    """
    told = dict(systems)
    found = {name: ink for name, ink in (fixed or {}).items() if name in told}
    free = [ink for ink in _RIVALS if ink not in found.values()]
    for name, role in told.items():
        if name not in found:
            found[name] = _OWN[role] if role in _OWN else free.pop(0) if free else OTHERS
    return found


def css_variables(dark: bool) -> str:
    """Return declarations of all roles."""
    return "".join(f"--{role}:{pair[dark]};" for role, pair in COLOURS.items())
