"""What the encoder does not see of a text: how long it is, how many lines it has, how much of it is digits.

The packaged encoder reads 128 tokens, takes their mean, and knows no line breaks; few numbers are words that it knows.
Yet long questions get long answers, an exercise is laid out otherwise than a chat, and some LLMs reckon better than
they read. So these three stand behind the embedding, in the log too. Each has its bounds, so that no text is far from
all others, and about the spread of the first principal component of embeddings.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from mixllm_engine.types import Vector

SIZE: Final = 3
_SCALE: Final = 0.7
_TYPICAL_LOG_LENGTH: Final = 5.5  # some 240 characters
_CHARACTERS_READ: Final = 50_000  # as by the encoder
_ZERO, _LINE_END = np.frombuffer(b"0\n", dtype=np.uint8)
_NAME: Final = "+surface"


def surface(text: str) -> Vector:
    """Return length, lines and digits of a text, shape (`SIZE`,): from -0.7 to 0.7, 0 to 0.7 and 0 to 2.1.

    Examples
    --------
    >>> surface("What is 12 + 34?").round(2)
    array([-0.61,  0.  ,  1.05])
    """
    read = np.frombuffer(text[:_CHARACTERS_READ].encode("ascii", "replace"), dtype=np.uint8)
    digits = np.count_nonzero(read - _ZERO < 10)  # what is less than "0" wraps round to far more
    return _SCALE * np.array(
        [
            math.tanh((math.log1p(len(text)) - _TYPICAL_LOG_LENGTH) / 2.0),
            math.tanh(math.log1p(np.count_nonzero(read == _LINE_END)) / 2.0),
            3.0 * math.sqrt(digits / max(len(read), 1)),
        ]
    )


UNKNOWN: Final = np.zeros(SIZE)
"""Stands for the surface of a query of which there is an embedding alone: of usual length, one line, no digits."""


def vector_space(encoder: str, *, surface: bool) -> str:
    """Name the space of the vectors that are logged and learned from: an encoder's, with or without a surface.

    Parameters
    ----------
    encoder : str
        Its fingerprint.
    surface : bool
        Whether `surface` of the text stands behind the embedding.
    """
    return encoder + _NAME if surface else encoder
