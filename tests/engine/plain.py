"""Features that hardly tell one short text from another: for tests of what happens where queries are all alike."""

from __future__ import annotations

from typing import Final

from mixllm_engine.config import FeatureConfig

FEATURES: Final = FeatureConfig(surface=False, weights="even")
