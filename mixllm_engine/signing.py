"""References that a browser may hold: a decision's id with a time limit, signed, so that nobody makes or alters one.

A bare decision id can't be guessed, but whoever has seen one may give feedback on it for ever. A token ends by itself,
and an address that takes feedback refuses what it did not hand out before it asks the store. It says which answer may
be judged, until when; it does not say who judges, and may be used again until it expires: the same key then replaces
its own value. It is no secret, and holds none.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
import time
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Final, NoReturn

from mixllm_engine.crediting import DECISION_ID
from mixllm_engine.errors import ConfigError, FeedbackError, FeedbackTokenError

# What is signed begins with this: what the secret signs elsewhere is never taken for a token, nor the other way round.
_DOMAIN: Final = b"mixllm feedback token 1\0"
_SHORTEST_SECRET: Final = 16
_LONGEST_VALID_S: Final = 1e9
# An id, a time and a signature need no more.
_LONGEST_TOKEN: Final = 128

Secret = bytes | str


class FeedbackSigner:
    """Make and check signed references for feedback: HMAC-SHA256 over a decision's id and the time at which it expires.

    Parameters
    ----------
    secret : bytes, str, or sequence of these
        At least 16 bytes that nobody can guess, such as ``secrets.token_bytes(32)``; the same in every process. Of
        several the first signs and all are accepted: to replace a secret, put the new one in front, and drop the old
        one when the last of its tokens has expired.
    clock : callable
        Seconds since the epoch.

    Raises
    ------
    ConfigError
        If there is no secret, or one is too short.

    Examples
    --------
    >>> from mixllm_engine.testing import tiny_router
    >>> router, signer = tiny_router(), FeedbackSigner("from the environment of the server")
    >>> token = signer.sign(router.decide("hello").decision_id, valid_s=3600)  # goes to the page, with the answer
    >>> router.feedback(signer.verify(token), 1.0).status  # when it comes back
    'applied'
    >>> signer.verify("0" + token)
    Traceback (most recent call last):
    mixllm_engine.errors.FeedbackTokenError: this is no feedback token of ours, ...

    References
    ----------
    Krawczyk, Bellare and Canetti (1997), "HMAC: Keyed-Hashing for Message Authentication", RFC 2104.
    """

    def __init__(self, secret: Secret | Sequence[Secret], *, clock: Callable[[], float] = time.time) -> None:
        try:
            secrets = [secret] if isinstance(secret, bytes | str) else list(secret)
        except TypeError as error:  # such as the value of a variable that is not set
            raise ConfigError(f"a secret is bytes, a str or a list of these, not {type(secret).__name__}") from error
        if not secrets:
            raise ConfigError("a signer needs a secret, such as secrets.token_bytes(32)")
        # Only the state of the hash is kept, from which the secret can't be read.
        self._keyed = [hmac.new(_checked(one), _DOMAIN, hashlib.sha256) for one in secrets]
        self._clock = clock

    def sign(self, decision_id: str, *, valid_s: float) -> str:
        """Return a token for a decision.

        Parameters
        ----------
        decision_id : str
            The decision's id.
        valid_s : float
            Seconds until it expires.

        Returns
        -------
        str
            About 90 characters that may stand in a URL as they are.

        Raises
        ------
        FeedbackError
            If `decision_id` is not the id of a decision.
        ConfigError
            If `valid_s` is not above 0, or so long that it says nothing.
        """
        if not isinstance(decision_id, str) or not DECISION_ID.fullmatch(decision_id):
            raise FeedbackError("only the id of a decision can be signed: 32 hexadecimal digits, Decision.decision_id")
        if not isinstance(valid_s, Real) or not 0.0 < valid_s <= _LONGEST_VALID_S:
            raise ConfigError(f"valid_s={valid_s!r} must be a number above 0 and at most {_LONGEST_VALID_S:g} seconds")
        said = f"{decision_id}.{math.ceil(self._clock() + valid_s)}"
        return f"{said}.{_signature(self._keyed[0], said)}"

    def verify(self, token: str) -> str:
        """Return the decision's id, for `Router.feedback`.

        Raises
        ------
        FeedbackTokenError
            If the token is not exactly one that this secret signed, or has expired.
        """
        if not isinstance(token, str) or len(token) > _LONGEST_TOKEN or not token.isascii():
            raise _refused()
        # Texts are compared, not bytes: several texts stand for the same bytes in base64.
        said, _, signature = token.rpartition(".")
        if not any(hmac.compare_digest(_signature(keyed, said), signature) for keyed in self._keyed):
            raise _refused()
        decision_id, _, expires_s = said.partition(".")
        if self._clock() >= int(expires_s):
            raise FeedbackTokenError("this feedback token has expired: ask for feedback sooner, or sign for longer")
        return decision_id

    def __repr__(self) -> str:
        """Count the secrets."""
        return f"FeedbackSigner(secrets={len(self._keyed)})"

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled or copied into another process."""
        raise TypeError("a FeedbackSigner holds a secret and can't be pickled: make one in each process")


def _checked(secret: Secret) -> bytes:
    if not isinstance(secret, bytes | str):
        raise ConfigError(f"a secret is bytes or a str, not {type(secret).__name__}")
    key = secret.encode("utf-8", "surrogatepass") if isinstance(secret, str) else secret
    if len(key) < _SHORTEST_SECRET:
        raise ConfigError(f"a secret needs at least {_SHORTEST_SECRET} bytes that nobody can guess, got {len(key)}")
    return key


def _signature(keyed: hmac.HMAC, said: str) -> str:
    mac = keyed.copy()
    mac.update(said.encode("ascii"))
    return base64.urlsafe_b64encode(mac.digest()).rstrip(b"=").decode("ascii")


def _refused() -> FeedbackTokenError:
    return FeedbackTokenError("this is no feedback token of ours, or it was altered or signed with another secret")
