"""Every algorithm of d3rlpy as an agent: reinforcement learning from recorded episodes alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rl_framework.agent.imitation.imitation import ImitationAgent
from rl_framework.agent.imitation.offline_library.algorithms import OfflineAlgorithm, resolve_offline_algorithm
from rl_framework.errors import ArgumentError

if TYPE_CHECKING:
    from rl_framework.agent.reinforcement.stable_baselines import StableBaselinesAgent

__all__ = ["OfflineAgent"]


class OfflineAgent(ImitationAgent):
    """An agent whose algorithm comes from d3rlpy: it learns from recorded episodes and their rewards, without acting.

    A timestep of its training is a transition that was learned from: a gradient step counts as many as its batch has
    (for decision transformers, as it has stretches). `train` takes environments too, and only evaluates in them.

    Observations may be vectors, images, discrete, or dictionaries of what is no image. Images of bytes are divided by
    255, and continuous actions are scaled from their bounds, unless `observation_scaler` and `action_scaler` say
    otherwise. Scalers without numbers get them from the first episodes that the agent is trained on.

    Decision transformers (and TACR) act on what they have seen of an episode and aim at a return: pass the `state` of
    `choose_action` on. Who acts is not told rewards, so what was earned so far is reckoned at the pace of the best
    recorded episode.

    Args:
        algorithm_class: A class such as `d3rlpy.algos.CQL` or `d3rlpy.algos.CQLConfig`, or a registered name: "awac",
            "bc", "bcq", "bear", "cal_ql", "cql", "crr", "ddpg", "decision_transformer", "double_dqn", "dqn", "iql",
            "nfq", "plas", "plas_with_perturbation", "prdc", "random_policy", "rebrac", "sac", "tacr", "td3",
            "td3_plus_bc". Where actions are discrete "bc", "bcq", "cql", "decision_transformer", "random_policy" and
            "sac" become their discrete variants ("discrete_cql"), which can be named too.
        algorithm_parameters: Any field of the algorithm's configuration, by d3rlpy's name. Encoders, Q functions,
            optimizers and scalers are d3rlpy's objects, names ("simba"), or data (`{"type": "vector",
            "hidden_units": [64, 64]}`). Also `device` ("auto"), and for transformers `target_return` (None: the
            highest of the recorded episodes).

    Raises:
        UnknownNameError: Unknown algorithm or parameter; the nearest names are suggested.
        ArgumentError: A parameter cannot be used.
        MissingExtraError: d3rlpy is not installed.
    """

    def __init__(
        self, algorithm_class: str | type[Any] = "cql", algorithm_parameters: dict[str, Any] | None = None
    ) -> None:
        super().__init__(algorithm_class, algorithm_parameters)

    @classmethod
    def resolve(cls, algorithm_class: str | type[Any]) -> OfflineAlgorithm:
        """Finds an algorithm by class or name; see `resolve_offline_algorithm`."""
        return resolve_offline_algorithm(algorithm_class)

    def policy_to_export(self) -> StableBaselinesAgent:
        """Raises, because the policy is d3rlpy's."""
        raise ArgumentError(
            "agent",
            self,
            "its policy is d3rlpy's, and none of Stable-Baselines3 that could be written so",
            'The library writes most of its policies as TorchScript: agent.algorithm.save_policy("policy.pt").',
        )
