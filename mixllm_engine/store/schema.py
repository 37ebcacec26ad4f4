"""The tables of a durable store. Keys of providers have no column; texts of prompts have one, for who asks for it."""

from __future__ import annotations

import sqlalchemy as sa

SCHEMA_VERSION = 3  # `store.preparing` leads there from every older one

metadata = sa.MetaData()

_sequence = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # SQLite counts up only INTEGER keys

meta = sa.Table(
    "mixllm_meta",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)

decisions = sa.Table(
    "mixllm_decisions",
    metadata,
    sa.Column("decision_id", sa.String(64), primary_key=True),
    sa.Column("time_s", sa.Float(53), nullable=False, index=True),
    sa.Column("policy", sa.String(128), nullable=False),
    sa.Column("encoder", sa.String(128), nullable=False),
    sa.Column("candidate", sa.String(256), nullable=False, index=True),
    sa.Column("propensity", sa.Float(53), nullable=False),
    sa.Column("explored", sa.Boolean, nullable=False, index=True),
    sa.Column("reason", sa.String(64), nullable=False),
    sa.Column("willingness_to_pay", sa.Float(53), nullable=True),  # NULL = infinite
    sa.Column("uncertainty_weight", sa.Float(53)),
    sa.Column("penalty_weight", sa.Float(53)),
    sa.Column("prompt_tokens", sa.Integer, nullable=False),
    sa.Column("ranking", sa.JSON, nullable=False),
    sa.Column("scores", sa.JSON, nullable=False),
    sa.Column("embedding", sa.LargeBinary, nullable=False),
)

outcomes = sa.Table(
    "mixllm_outcomes",
    metadata,
    sa.Column("sequence", _sequence, primary_key=True, autoincrement=True),
    sa.Column("decision_id", sa.ForeignKey("mixllm_decisions.decision_id"), nullable=False, index=True),
    sa.Column("time_s", sa.Float(53), nullable=False),
    sa.Column("candidate", sa.String(256), nullable=False),
    sa.Column("latency_s", sa.Float(53)),
    sa.Column("first_token_s", sa.Float(53)),
    sa.Column("prompt_tokens", sa.Integer),
    sa.Column("response_tokens", sa.Integer),
    sa.Column("cached_tokens", sa.Integer),
    sa.Column("cost_usd", sa.Float(53)),
    sa.Column("error", sa.String(32)),
)

# What else leads to a decision, such as the ids of the runs of a framework in which it was made.
links = sa.Table(
    "mixllm_links",
    metadata,
    sa.Column("name", sa.String(256), primary_key=True),
    sa.Column("decision_id", sa.ForeignKey("mixllm_decisions.decision_id"), primary_key=True, index=True),
)

# The latest reward under each key ...
feedback = sa.Table(
    "mixllm_feedback",
    metadata,
    sa.Column("decision_id", sa.ForeignKey("mixllm_decisions.decision_id"), primary_key=True),
    sa.Column("key", sa.String(128), primary_key=True),
    sa.Column("reward", sa.Float(53), nullable=False),
    sa.Column("weight", sa.Float(53), nullable=False),
    sa.Column("time_s", sa.Float(53), nullable=False),
)

# ... and every change of a label, which is what the learned state is folded from.
feedback_log = sa.Table(
    "mixllm_feedback_log",
    metadata,
    sa.Column("sequence", _sequence, primary_key=True, autoincrement=True),
    sa.Column("decision_id", sa.ForeignKey("mixllm_decisions.decision_id"), nullable=False, index=True),
    sa.Column("time_s", sa.Float(53), nullable=False),
    sa.Column("key", sa.String(128), nullable=False),
    sa.Column("reward", sa.Float(53), nullable=False),
    sa.Column("weight", sa.Float(53), nullable=False),
    sa.Column("candidate", sa.String(256), nullable=False),
    sa.Column("before", sa.Float(53)),
    sa.Column("before_weight", sa.Float(53)),
    sa.Column("after", sa.Float(53), nullable=False),
    sa.Column("after_weight", sa.Float(53), nullable=False),
)

states = sa.Table(
    "mixllm_states",
    metadata,
    sa.Column("sequence", _sequence, primary_key=True, autoincrement=True),
    sa.Column("time_s", sa.Float(53), nullable=False),
    sa.Column("encoder", sa.String(128), nullable=False, index=True),
    sa.Column("data", sa.LargeBinary, nullable=False),
)

counters = sa.Table(
    "mixllm_counters",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("value", sa.BigInteger, nullable=False),
)

# Texts of prompts, where the settings ask to keep them for a while.
prompts = sa.Table(
    "mixllm_prompts",
    metadata,
    sa.Column("decision_id", sa.ForeignKey("mixllm_decisions.decision_id"), primary_key=True),
    sa.Column("text", sa.Text, nullable=False),
)

# How much was dropped, so that what `Router.stats` counts does not fall.
tallies = sa.Table(
    "mixllm_tallies",
    metadata,
    sa.Column("encoder", sa.String(128), primary_key=True),
    sa.Column("candidate", sa.String(256), primary_key=True),
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("value", sa.BigInteger, nullable=False),
)

# What workers tell each other; see `mixllm_engine.workers`.
workers = sa.Table(
    "mixllm_workers",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("beat", sa.Integer, nullable=False),
    sa.Column("time_s", sa.Float(53), nullable=False),
    sa.Column("data", sa.Text, nullable=False),
)
