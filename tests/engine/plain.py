"""Features that hardly tell one short text from another: for tests of what happens where queries are all alike."""

from __future__ import annotations

from typing import Any, Final

FEATURES: Final[dict[str, Any]] = {"surface": False, "weights": "even"}
