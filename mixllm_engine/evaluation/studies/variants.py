"""Named configurations: the default with one thing changed. A new switch is one line here."""

from __future__ import annotations

from typing import Any

from mixllm_engine.config import RouterConfig


def changed(config: RouterConfig, **changes: Any) -> RouterConfig:
    """Return a configuration with other values; ``section__name=value``, checked like any other.

    Examples
    --------
    >>> changed(RouterConfig.default(), learning__forgetting=0.997).learning.forgetting
    0.997
    """
    data = config.model_dump()
    for path, value in changes.items():
        section, _, name = path.partition("__")
        data[section] = {**data[section], name: value}
    return RouterConfig.model_validate(data)


def components() -> dict[str, RouterConfig]:
    """Return the default, the default with each of its components off or in another form, and the paper's preset."""
    default = RouterConfig.default()
    return {
        "default": default,
        "no domains": changed(default, features__domains="none"),
        "domains without tags": changed(default, features__domains="clusters"),
        "no components": changed(default, features__components=0),
        "even components": changed(default, features__weights="even"),
        "no surface": changed(default, features__surface=False),
        "query-blind": changed(default, features__domains="none", features__components=0, features__surface=False),
        "hardly shrunk": changed(default, prediction__quality_shrinkage=1.0),
        "shrunk more": changed(default, prediction__quality_shrinkage=100.0),
        "mean length": changed(default, prediction__length_shrinkage=1e6),
        "shrunk length": changed(default, prediction__length_shrinkage=10.0),
        "neural heads": changed(default, prediction__heads="neural"),
        "no uncertainty": changed(default, exploration__mode="none"),
        "squared uncertainty": changed(default, decision__uncertainty="square"),
        "thompson": changed(default, exploration__mode="thompson"),
        "no leader's margin": changed(default, decision__leader_margin=0.0),
        "no penalty": changed(default, decision__penalty="none"),
        "exponential penalty": changed(default, decision__penalty="exponential", decision__penalty_weight=0.1),
        "f_df alone": changed(default, learning__binary="policy_gradient"),
        "f_df and labels": changed(default, learning__binary="both"),
        "forgetting .997": changed(default, learning__forgetting=0.997),
        "no drift tests": changed(default, learning__drift_threshold=None),
        "paper": RouterConfig.paper(),
    }


def ready_for_drift() -> dict[str, RouterConfig]:
    """Return one that is not ready, what readiness costs being measured against it, the default, and ways to forget."""
    default = RouterConfig.default()
    unready = changed(default, learning__forgetting=1.0, learning__drift_threshold=None)
    forgetting = {f"forgetting {keep}": changed(unready, learning__forgetting=keep) for keep in (0.999, 0.997, 0.99)}
    return {"unready": unready, "default": default, **forgetting}
