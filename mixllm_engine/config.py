"""Every knob, with the paper's symbol, its default and its range.

Two presets: `RouterConfig.paper` is the published form to the letter (where the paper leaves a value open, the choice
is said beside it), `RouterConfig.default` is what we would run.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mixllm_engine.errors import ConfigError

BudgetWord = Literal["very_low", "low", "medium", "high", "very_high"]
BUDGET_WORDS: tuple[BudgetWord, ...] = ("very_low", "low", "medium", "high", "very_high")

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DecisionConfig(_Frozen):
    """The meta decision maker (paper, section 3.3, equations 7 to 11)."""

    budget: BudgetWord = Field(default="medium", description="Budget where a call gives none.")
    cost_scale: Literal["pool", "usd"] = Field(
        default="pool", description="Divide costs by the pool's reference cost, or take dollars as the paper does."
    )
    uncertainty: Literal["width", "square"] = Field(
        default="width", description="sqrt(x' A^-1 x), LinUCB's width, or the paper's x' A^-1 x (equation 9)."
    )
    uncertainty_weight: NonNegative = Field(default=0.02, description="alpha; counts where exploration.mode is ucb")
    penalty: Literal["deadline", "exponential", "none"] = Field(
        default="deadline",
        description="Quality lost because the answer may be late, p (1 - P(T <= tau)), or exp(gamma (w - xi tau)).",
    )
    penalty_weight: NonNegative = Field(default=1.0, description="beta")
    penalty_rate: Positive = Field(default=1.0, description="gamma, per second; exponential penalty only")
    tolerance: Positive = Field(
        default=0.8, description="xi: share of tau at which the penalty turns on; exponential only"
    )
    max_wait_s: Positive | None = Field(default=60.0, description="tau: longest tolerable wait; None = any")
    leader_margin: NonNegative = Field(
        default=1.5,
        description="By how many standard errors a candidate must be expected to be better than the one that is the "
        "best on average before it counts as better at all, once both have many labels.",
    )


class ExplorationConfig(_Frozen):
    """What is tried although something else looks better.

    `mode` says what the uncertainty of a quality estimate does in every decision. `rate` and `pulls` are about
    newcomers, in any mode: candidates of which little is known are drawn while they may still turn out to be the best.
    That ends by itself: after `pulls` draws or labels of a candidate, or as soon as its labels leave it no hope.
    Nothing is explored inside tool loops or for a forced candidate.
    """

    mode: Literal["none", "ucb", "thompson"] = Field(
        default="ucb",
        description="ucb: the score's bonus alpha u. thompson: no bonus; every decision draws each candidate's quality "
        "from its posterior and takes the best. none: neither.",
    )
    thompson_scale: NonNegative = Field(
        default=0.1,
        description="Standard deviation of those draws, in widths sqrt(x' A^-1 x). 1 explores far too much.",
    )
    rate: float = Field(
        default=0.2, ge=0, le=0.5, description="Share of decisions that explore while any candidate is new."
    )
    pulls: int = Field(default=20, ge=0, description="Exploring draws that each new candidate gets at the most.")
    optimism: NonNegative = Field(
        default=0.5,
        description="After these, in mode ucb: quality given in advance for n labels, this much times 1 / sqrt(n + 2), "
        "falling to 0 at 200 labels. 0.5 is the standard deviation of a coin.",
    )


class NeuralConfig(_Frozen):
    """Heads trained by gradient (paper, equations 12, 13, 15 and 16); they count where `heads` is neural.

    The paper's steps of 1 stand for a plain fit, since it has forests and no gradient.
    """

    quality_rate: float = Field(
        default=0.01,
        gt=0,
        le=1,
        description="eta_1: step of a label, offline (where it shrinks to 0 over the passes) and online.",
    )
    length_rate: float = Field(default=0.01, gt=0, le=1, description="eta_2: the same for log response length.")
    width: int = Field(default=64, ge=1, le=1024, description="Hidden units of a network.")
    passes: int = Field(default=40, ge=1, description="How often offline training sees each row.")
    shrinkage: NonNegative = Field(
        default=10.0, description="Prior precision of every weight but the constant, offline: weight decay."
    )
    seed: int = Field(default=0, ge=0, description="Makes the first weights and the order of the rows.")


class PredictionConfig(_Frozen):
    """The LLM-specific predictors (paper, section 3.2)."""

    heads: Literal["bayesian", "neural"] = Field(
        default="bayesian",
        description="Where expected quality and length come from: closed-form linear heads, or networks trained by "
        "gradient. The uncertainty comes from the former in either case.",
    )
    neural: NeuralConfig = Field(default_factory=lambda: NeuralConfig())
    quality_shrinkage: Positive = Field(
        default=40.0,
        description="Prior precision of every weight but the bias: pulls towards the candidate's own mean.",
    )
    length_shrinkage: Positive = Field(default=3.0, description="The same for log response length.")
    prior_strength: Positive = Field(default=2.0, description="How many observations the prior mean is worth.")


class LearningConfig(_Frozen):
    """Learning from online feedback (paper, section 3.4, equations 15 to 22)."""

    binary: Literal["labels", "policy_gradient", "both"] = Field(
        default="labels",
        description="What learns from feedback: the quality heads, by Bernoulli labels; the paper's f_df, by policy "
        "gradient, and nothing else; or both.",
    )
    feedback_rate: Positive = Field(default=0.001, description="eta_3: step of the policy gradient.")
    table_trust: Positive | None = Field(
        default=200.0,
        description="An online label weighs 1 / (1 + t / this), at least 0.2, where t is how many labels a table "
        "taught its candidate: those are of all queries, online ones of queries where the candidate was over-estimated "
        "more often than under-estimated. None = 1.",
    )
    forgetting: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="What a new label leaves of its candidate's older quality statistics, offline ones included; "
        "0.997 remembers about 333 labels, 1 = nothing is forgotten.",
    )
    drift_threshold: Positive | None = Field(
        default=20.0,
        description="Alert when a candidate's residuals have drifted by this many standard errors; None = off. With "
        "20, 0 to 4 % of candidates raise a false alert within 2,000 labels, and a quality that falls from 0.7 to 0.35 "
        "is found after about 40.",
    )
    drift_memory: Positive = Field(
        default=20.0,
        description="How many labels the quality statistics of a candidate weigh once an alert begins: what was true "
        "before the shift is mostly forgotten, at once.",
    )


class FeatureConfig(_Frozen):
    """phi(q) = [1, domain posteriors, principal components, surface] (paper, section 3.1, but for the last)."""

    domains: Literal["tags", "clusters", "none"] = Field(
        default="tags", description="D: domains of the general prompts' tags, k-means clusters of them, or none."
    )
    clusters: int = Field(default=8, ge=1, le=256, description="|D| where domains are clusters.")
    temperature: Positive = Field(default=0.1, description="T of softmax(e . mu_j / T), for clusters.")
    components: int = Field(default=24, ge=0, le=384, description="Principal components of the embedding.")
    weights: Literal["falling", "even"] = Field(
        default="falling", description="How components count: the k-th 3 / k^0.75 times, or all alike."
    )
    surface: bool = Field(default=True, description="How long a text is, how many lines and digits it has.")


class WaitingConfig(_Frozen):
    """What is assumed of a candidate's speed until outcomes tell, and how long failures keep it out."""

    tokens_per_s: Positive = Field(default=50.0, description="Prior generation speed.")
    startup_s: NonNegative = Field(default=0.5, description="Prior time to first token.")
    prior_calls: Positive = Field(default=5.0, description="How many calls that prior is worth.")
    concurrency: int = Field(default=16, ge=1, description="Calls that one candidate serves at once before they queue.")
    cooldown_s: NonNegative = Field(
        default=30.0, description="Pause after a rate limit, time-out or outage; doubles each time."
    )
    max_cooldown_s: NonNegative = Field(default=600.0, description="Longest such pause.")
    auth_cooldown_s: NonNegative = Field(default=600.0, description="Pause after a refused or missing key.")


class CallingConfig(_Frozen):
    """Calls to candidates."""

    timeout_s: Positive = Field(
        default=120.0,
        description="Longest silence in one attempt, before the first byte and between two; a call may say otherwise.",
    )


class StorageConfig(_Frozen):
    """How what happens is written to a database. A store in memory needs none of this."""

    decisions: Literal["written", "queued"] = Field(
        default="written",
        description="Decisions, outcomes and links are on disk when the call returns, or are written soon after. "
        "Where the database is slow or can't be reached, they wait in both cases, and no answer is held up.",
    )
    feedback: Literal["raises", "queues"] = Field(
        default="raises",
        description="What feedback does while the database can't be reached: raise StoreUnavailableError, or wait in "
        "memory, with the status 'queued'. Else it is durable when the call returns.",
    )
    queue: int = Field(
        default=10_000, ge=1, description="How many entries may wait; further ones are lost, and counted in stats()."
    )
    keep_s: Positive | None = Field(
        default=None,
        description="Decisions older than this are dropped, with what belongs to them, once a stored state knows what "
        "they taught; feedback for them is refused from then on. None = never.",
    )
    keep_decisions: int | None = Field(
        default=None, ge=1, description="Keep no more decisions than this, of each encoder: the newest. None = all."
    )
    keep_prompts_s: Positive | None = Field(
        default=None, description="Keep the texts of prompts for so long. None = they are never stored."
    )


class RolloutConfig(_Frozen):
    """MixLLM beside the one model that answers now: watched only, or with a share of the traffic that rises by proof.

    Examples
    --------
    >>> RolloutConfig.shadow("openai/gpt-4o").shares
    (0.0,)
    """

    baseline: str = Field(description="Name of the candidate that answers now.")
    shares: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        default=(0.05, 0.1, 0.25, 0.5, 1.0),
        min_length=1,
        description="Shares of the traffic for MixLLM, rising. The first one needs no proof; (0.0,) is shadow mode.",
    )
    margin: float = Field(
        default=0.02,
        gt=0,
        le=1,
        description="Mean quality over all traffic that may be lost against the baseline alone: a share s is taken "
        "once the lower bound on quality(MixLLM) - quality(baseline) is above -margin / s. Where the upper bound is "
        "below -margin, the baseline answers all.",
    )
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="Of either bound, at all times at once.")

    @classmethod
    def shadow(cls, baseline: str) -> Self:
        """Return the settings under which the baseline answers all, and what MixLLM would choose is recorded."""
        return cls(baseline=baseline, shares=(0.0,))

    @model_validator(mode="after")
    def _check_shares(self) -> Self:
        rising = all(a < b for a, b in zip(self.shares, self.shares[1:], strict=False))
        if not rising or (self.shares[0] == 0.0 and len(self.shares) > 1):
            raise ValueError(f"shares={self.shares} must rise, and begin above 0 if others follow")
        return self


class RouterConfig(_Frozen):
    """All settings of a router.

    Examples
    --------
    >>> RouterConfig.paper().decision.uncertainty_weight
    0.01
    >>> RouterConfig.default().decision.penalty
    'deadline'
    """

    decision: DecisionConfig = Field(default_factory=lambda: DecisionConfig())
    exploration: ExplorationConfig = Field(default_factory=lambda: ExplorationConfig())
    prediction: PredictionConfig = Field(default_factory=lambda: PredictionConfig())
    learning: LearningConfig = Field(default_factory=lambda: LearningConfig())
    features: FeatureConfig = Field(default_factory=lambda: FeatureConfig())
    waiting: WaitingConfig = Field(default_factory=lambda: WaitingConfig())
    calling: CallingConfig = Field(default_factory=lambda: CallingConfig())
    storage: StorageConfig = Field(default_factory=lambda: StorageConfig())
    rollout: RolloutConfig | None = Field(default=None, description="Beside another model; None = MixLLM alone.")
    sync_interval_s: NonNegative = Field(
        default=1.0, description="How often the log is asked for what other workers wrote."
    )

    @model_validator(mode="after")
    def _check_rollout(self) -> Self:
        if self.rollout is not None and (self.storage.keep_s or self.storage.keep_decisions):
            raise ValueError("a rollout counts all its judged decisions: leave storage.keep_s and keep_decisions None")
        return self

    @classmethod
    def default(cls) -> RouterConfig:
        """Return the settings that we recommend."""
        return cls()

    @classmethod
    def given(cls, config: RouterConfig | None) -> RouterConfig:
        """Return the settings that somebody gave, or the default ones for ``None``; `ConfigError` for all else."""
        if config is None:
            return cls.default()
        if not isinstance(config, RouterConfig):
            raise ConfigError(
                f"config must be a RouterConfig, got {type(config).__name__}; RouterConfig.model_validate(...) makes "
                "one of a dict"
            )
        return config

    @classmethod
    def paper(cls) -> RouterConfig:
        """Return the published score to the letter.

        alpha = 0.01 and beta = 0.1 are the paper's; gamma, xi and tau are not published: 1 per second, 0.8 and 10 s
        (its stream is paced in windows of 10 s). The paper has no onboarding draws. Online feedback teaches f_df and
        nothing else, with its eta_3 = 0.001.
        """
        return cls(
            decision=DecisionConfig(
                cost_scale="usd",
                uncertainty="square",
                uncertainty_weight=0.01,
                penalty="exponential",
                penalty_weight=0.1,
                max_wait_s=10.0,
                leader_margin=0.0,
            ),
            exploration=ExplorationConfig(rate=0.0, pulls=0, optimism=0.0),
            learning=LearningConfig(binary="policy_gradient", feedback_rate=0.001, drift_threshold=None),
        )
