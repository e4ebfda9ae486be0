"""Parts that keep a policy random, or near another one."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from rl_framework.agent.reinforcement.parts.checks import check_without_state
from rl_framework.agent.reinforcement.parts.part import Part
from rl_framework.errors import ArgumentError

if TYPE_CHECKING:
    from rl_framework.agent.reinforcement.composed.batch import Batch
    from rl_framework.agent.reinforcement.composed.setup import Setup

__all__ = ["Entropy", "KLPenalty"]


class Entropy(Part):
    """Rewards the policy for being random: minus the mean entropy (Williams and Peng 1991; Mnih et al. 2016).

    PPO and A2C have the same term as `ent_coef`; this is for compositions that have not, such as `Demonstration` alone.

    Args:
        weight: Weight of the entropy in nats; a number or a schedule.
    """

    needs = frozenset({"policy"})
    schedules = ("weight",)

    def __init__(self, weight: Any = 0.01) -> None:
        super().__init__()
        self.weight = weight

    def build(self, setup: Setup) -> None:
        """Asks for the policy."""
        self.policy = setup.policy()

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Returns minus the mean entropy, with its weight."""
        entropy = self.policy(batch).entropy().mean()
        batch.report("entropy", entropy)
        return {"bonus": -self.now["weight"] * entropy}


class KLPenalty(Part):
    """Keeps the policy near a reference: the mean divergence of the policy from it, in nats.

    The divergence is that of the policy from the reference, as in KL control (Ziegler et al. 2019): the policy may
    leave out what the reference does, and is punished for what the reference would hardly ever do. It keeps a policy
    that was cloned or trained before from forgetting while it is trained further.

    The reference is a copy that does not learn, normalisation of observations included. It is saved with the agent, so
    that a loaded one needs no file of another agent.

    Args:
        reference: A trained `ComposedAgent`, or the path of a saved one, whose policy has the same network as this
            agent's; None: this agent's own policy as it is when the first training with this part begins. True stands
            for it in saved agents: the one whose weights are saved with them.
        weight: Weight of the divergence; a number or a schedule.
    """

    needs = frozenset({"policy"})
    schedules = ("weight",)
    taken: Tensor

    def __init__(self, reference: Any = None, weight: Any = 0.1) -> None:
        super().__init__()
        self.reference, self.weight = reference, weight

    def build(self, setup: Setup) -> None:
        """Asks for the policy and makes room for the reference.

        Raises:
            ArgumentError: The policy is recurrent.
        """
        self.policy = setup.policy()
        check_without_state(self.policy.trunk, "the reference acts without a state")
        self._setup = setup
        # In one copy, so that the reference normalises by statistics of its own.
        self.frozen = copy.deepcopy(torch.nn.ModuleDict(self._copied())).requires_grad_(False)
        self.register_buffer("taken", torch.zeros((), dtype=torch.bool))

    def start(self) -> None:
        """Takes the reference, the first time.

        Raises:
            ArgumentError: Its network is another one than that of the policy.
        """
        if bool(self.taken):
            return
        copied = self._copied() if self.reference is None else _networks_of(self.reference)
        state = torch.nn.ModuleDict(copied).state_dict()
        own = self.frozen.state_dict()
        if {name: tensor.shape for name, tensor in state.items()} != {name: own[name].shape for name in own}:
            raise ArgumentError(
                "KLPenalty(reference)",
                self.reference,
                "its policy has another network, other actions, or another normalisation than this agent's",
                "Give this agent the same networks and normalize_observations.",
            )
        self.frozen.load_state_dict(state)
        self.taken.fill_(True)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Returns the mean divergence, with its weight."""
        with torch.no_grad():
            frozen: Any = self.frozen["policy"]
            # Not by batch.features: the trunk of the copy has the name of the original.
            reference = frozen.of_features(frozen.trunk(batch.observations))
        divergence = self.policy(batch).kl(reference).mean()
        batch.report("reference_kl", divergence)
        return {"divergence": self.now["weight"] * divergence}

    def saved_arguments(self) -> dict[str, Any]:
        """Returns the arguments without the reference, whose weights are among the networks."""
        arguments = {name: value for name, value in self.arguments.items() if name != "reference"}
        return arguments if self.reference is None else {**arguments, "reference": True}

    def unbuilt(self) -> Self:
        """Returns a part of the same configuration, with the same reference, that belongs to no agent."""
        if self.reference is not True:
            return super().unbuilt()
        return type(self)(**{**self.arguments, "reference": dict(self.frozen.items())})

    def _copied(self) -> dict[str, torch.nn.Module]:
        networks: dict[str, torch.nn.Module] = {"policy": self.policy}
        normaliser = self._setup.normaliser
        return networks if normaliser is None else {"normaliser": normaliser, **networks}


def _networks_of(reference: Any) -> dict[str, torch.nn.Module]:
    if isinstance(reference, str | Path):
        from rl_framework.agent.load import load_agent

        reference = load_agent(reference)
    if isinstance(reference, dict) and all(isinstance(each, torch.nn.Module) for each in reference.values()):
        return reference  # of a part in a saved agent
    composition = getattr(reference, "composition", None)
    if composition is None:
        raise ArgumentError(
            "KLPenalty(reference)", reference, "is no ComposedAgent", "Give a trained one, or the path of a saved one."
        )
    networks = {"policy": composition.policy}
    return networks if composition.normaliser is None else {"normaliser": composition.normaliser, **networks}
