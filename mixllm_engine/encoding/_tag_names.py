"""The names of tags: one spelling, one plural, one name for what means the same."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from mixllm_engine.encoding.encoder import Encoder

Tags = tuple[str, ...]


def normalise_tag(tag: str) -> str:
    """Write a tag in lower case, without punctuation except that of names such as C++ and C#.

    Examples
    --------
    >>> normalise_tag("  #Number-Theory. "), normalise_tag("C++")
    ('number theory', 'c++')
    """
    plain = unicodedata.normalize("NFKC", tag).lower()
    words = re.sub(r"[^\w+#]|_", " ", plain).split()
    return " ".join(word.lstrip("#") for word in words if word.strip("+#"))


def tag_counts(tags_per_text: Iterable[Iterable[str]]) -> Counter[str]:
    """Count on how many texts each tag is."""
    return Counter(tag for tags in tags_per_text for tag in set(tags))


def by_frequency(counts: Mapping[str, int]) -> list[str]:
    """Sort tags from the most frequent down, equal ones by name."""
    return sorted(counts, key=lambda tag: (-counts[tag], tag))


def renamed(rows: Sequence[Sequence[str]], names: Mapping[str, str]) -> tuple[Tags, ...]:
    """Rename, and keep the first of what became equal."""
    return tuple(tuple(dict.fromkeys(names.get(tag, tag) for tag in tags if tag)) for tags in rows)


def plurals(counts: Counter[str]) -> dict[str, str]:
    """Rename the rarer of a plural and its singular, where both are in use; a plural by itself is left alone."""
    names = {}
    for tag in sorted(counts):
        singular = next((form for form in _singulars(tag) if form in counts), None)
        if singular is not None:
            keep, drop = by_frequency({tag: counts[tag], singular: counts[singular]})
            names[drop] = keep
    return names


def _singulars(tag: str) -> list[str]:
    """Return what a plural may be the plural of; nothing for short words ("news") and fields ("physics")."""
    if len(tag.split(" ")[-1]) < 5 or not tag.endswith("s") or tag.endswith(("ss", "us", "is", "ics")):
        return []
    if tag.endswith("ies"):
        return [tag[:-3] + "y"]
    return [tag[:-1], tag[:-2]] if tag.endswith(("ses", "xes", "ches", "shes")) else [tag[:-1]]


def near_duplicates(counts: Mapping[str, int], encoder: Encoder, merge_cosine: float) -> dict[str, str]:
    order = by_frequency(counts)
    vectors = encoder.encode(order)
    kept: list[int] = []
    names = {}
    for row, tag in enumerate(order):
        cosines = vectors[kept] @ vectors[row] if kept else vectors[:0, 0]
        nearest = int(cosines.argmax()) if kept else -1
        if kept and cosines[nearest] >= merge_cosine:
            names[tag] = order[kept[nearest]]
        else:
            kept.append(row)
    return names
