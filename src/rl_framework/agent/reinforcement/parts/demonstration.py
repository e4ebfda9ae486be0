"""Learning from an expert's episodes: with another part one more loss, alone behavioural cloning."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rl_framework.agent.imitation.library.batch_order import BatchOrder
from rl_framework.agent.reinforcement.composed.batch import Batch, rows_of
from rl_framework.agent.reinforcement.composed.collector import as_tensors
from rl_framework.agent.reinforcement.parts.checks import check_fraction, check_positive_integer, check_without_state
from rl_framework.agent.reinforcement.parts.part import Part
from rl_framework.episode import EpisodeSequence
from rl_framework.episode.compatibility import as_episode_sequence, check_episodes_fit, fingerprint
from rl_framework.episode.observation_tree import leaves
from rl_framework.episode.transitions import Transitions
from rl_framework.errors import ArgumentError

if TYPE_CHECKING:
    from rl_framework.agent.network.policy import Policy
    from rl_framework.agent.reinforcement.composed.rollout import Rollout
    from rl_framework.agent.reinforcement.composed.setup import Setup

__all__ = ["Demonstration", "ExpertTransitions"]

_KEPT_IN_MEMORY = 64 << 20
"""Bytes up to which episodes are turned into tensors once, instead of each batch anew."""


class Demonstration(Part):
    """The loss of behavioural cloning: minus the log-probability of what an expert did (Pomerleau 1991).

    With PPO it is PPO+BC: every minibatch of PPO comes with one of the expert's, and the weight can fall while the
    policy outgrows its teacher, as in demonstration-augmented policy gradients (DAPG, Rajeswaran et al. 2018, whose
    further factor, the largest advantage of the round, is left out). With SAC and a replay buffer it works the same
    way. Alone it is behavioural cloning, with the loss of the imitation library's `BC` less its terms for entropy and
    weights: the policy acts in the training environments, nothing is learned from what it meets there, and the agent
    takes one optimizer step on the expert's transitions for each step of the environments, so that
    `total_timesteps=5_000` are 5,000 steps of `batch_size` transitions.

    The episodes are the user's data: they are not saved with the agent, which acts without them. To train a loaded
    agent further, give it episodes: `agent.parts[...].episodes = episodes`. Resuming from a checkpoint needs the same
    ones.

    Args:
        episodes: What the expert did: an `EpisodeSequence`, a list of episodes, or the path of a data set.
        weight: Weight of the loss; a number or a schedule.
        batch_size: The expert's transitions in each step, in a new random order every pass through the data.
        decay: What the weight is multiplied with after each round, from 0 to 1; DAPG has 0.95.
        n_steps: Alone: steps of every slot in a round.
        policy_trunk: Alone: name of the trunk that the policy is built on.

    Attributes:
        alone: Whether no other part decides what is learned from.
    """

    schedules = ("weight",)
    rounds: Tensor
    strength: Tensor

    def __init__(
        self,
        episodes: EpisodeSequence | Sequence[Any] | str | Path | None = None,
        weight: Any = 1.0,
        batch_size: int = 64,
        decay: float = 1.0,
        n_steps: int = 64,
        policy_trunk: str = "policy",
    ) -> None:
        super().__init__()
        self.weight, self.batch_size, self.decay = weight, batch_size, decay
        self.n_steps, self.policy_trunk = n_steps, policy_trunk
        check_positive_integer(self, "batch_size")
        check_positive_integer(self, "n_steps")
        check_fraction(self, "decay")
        self.alone = False
        self._setup: Setup | None = None
        self._data: ExpertTransitions | None = None
        self._fingerprint: str | None = None
        self._seed, self._position = -1, 0
        self._episodes = as_episode_sequence(episodes, "Demonstration(episodes)")

    # The episodes

    @property
    def episodes(self) -> EpisodeSequence | None:
        """What the expert did; None after loading an agent, until it is given again."""
        return self._episodes

    @episodes.setter
    def episodes(self, episodes: Any) -> None:
        self._episodes = as_episode_sequence(episodes, "Demonstration(episodes)")
        self.arguments["episodes"] = self._episodes
        self._data, self._fingerprint = None, None
        if self._setup is not None and self._episodes is not None:
            self._check_episodes(self._setup)

    def saved_arguments(self) -> dict[str, Any]:
        """Returns the arguments without the episodes, which are data of the user."""
        return {name: value for name, value in self.arguments.items() if name != "episodes"}

    # Before training

    def join(self, parts: Sequence[Part]) -> None:
        """Finds out whether another part decides what is learned from.

        Raises:
            ArgumentError: None does, and a part needs what episodes do not tell.
        """
        self.alone = all(part is self or part.rollout_length is None for part in parts)
        wanting = [part.name for part in parts if part.records and "replay" not in part.needs]
        if self.alone and wanting:
            raise ArgumentError(
                "parts",
                [part.name for part in parts],
                f"{' and '.join(wanting)} learns from what is collected, and here all is learned from an expert's "
                "observations and actions",
                "Add a part that learns from what is collected, such as PPO().",
            )
        self.provides = frozenset({"policy", "batches"} if self.alone else ())  # type: ignore[misc]

    def build(self, setup: Setup) -> None:
        """Asks for the policy and checks that the episodes fit.

        Raises:
            SpaceMismatchError: They were recorded where the spaces were others.
            ArgumentError: The policy is recurrent.
        """
        self._setup = setup
        self.policy = setup.policy(self.policy_trunk)
        check_without_state(self.policy.trunk, "demonstrations are learned from as single transitions")
        self.register_buffer("rounds", torch.zeros((), dtype=torch.int64))
        self.register_buffer("strength", torch.ones(()), persistent=False)
        if self._episodes is not None:
            self._check_episodes(setup)

    def start(self) -> None:
        """Reads the episodes.

        Raises:
            ArgumentError: There are none.
        """
        assert self._setup is not None  # `build` came before
        if self._episodes is None:
            raise ArgumentError(
                "Demonstration(episodes)",
                None,
                "there are none to learn from; a saved agent does not hold those that it learned from",
                "Give some: Demonstration(episodes), or after loading agent.parts[...].episodes = episodes.",
            )
        if self._data is None:
            self._read(self._setup)

    def _check_episodes(self, setup: Setup) -> None:
        assert self._episodes is not None
        check_episodes_fit(self._episodes, setup.observation_space, setup.action_space, "Demonstration(episodes)")
        if self._episodes.n_transitions < self.batch_size:
            raise ArgumentError(
                "Demonstration(batch_size)",
                self.batch_size,
                f"the episodes have {self._episodes.n_transitions} transitions",
                "Give a smaller one, or more episodes.",
            )

    def _read(self, setup: Setup) -> None:
        assert self._episodes is not None
        self._fingerprint = fingerprint(self._episodes)
        self._data = ExpertTransitions(self._episodes.transitions(), self.policy, setup.device)
        if self._seed < 0:
            drawn = torch.randint(1 << 31, (), generator=setup.generator, device=setup.device)
            self._seed = int(drawn)
        self._order = BatchOrder(len(self._data), self.batch_size, self._seed)

    # Learning

    @property
    def rollout_length(self) -> int | None:
        """Steps of every slot in a round if it is alone."""
        return self.n_steps if self.alone else None

    def updates_per_round(self, n_slots: int) -> int:
        """Returns how many batches come of each rollout if it is alone."""
        return self.n_steps * n_slots

    def annotate(self, rollout: Rollout) -> None:
        """Counts the rounds, after each of which the weight is smaller."""
        self.strength.fill_(self.decay ** int(self.rounds))
        self.rounds += 1

    def batches(self, rollout: Rollout) -> Iterator[Batch]:
        """Yields the expert's transitions, a batch for each step that was taken."""
        taken = rollout.n_steps * rollout.n_slots if rollout.acted is None else int(rollout.acted.sum())
        for _ in range(taken):
            observations, actions = self._next()
            yield Batch({"observations": observations, "actions": actions})

    def prepare(self, batch: Batch) -> None:
        """Adds the expert's transitions."""
        if not self.alone:
            batch[f"{self.name}/observations"], batch[f"{self.name}/actions"] = self._next()

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Returns minus the mean log-probability of the expert's actions, with its weight."""
        expert = batch
        if not self.alone:
            expert = Batch({each: batch[f"{self.name}/{each}"] for each in ("observations", "actions")})
        log_probs = self.policy(expert).log_prob(expert["actions"])
        batch.report(f"{self.name}_log_prob", log_probs.mean())
        return {"cloning": -self.now["weight"] * self.strength * log_probs.mean()}

    def _next(self) -> tuple[Any, Tensor]:
        assert self._data is not None  # `start` came before
        self._position += 1
        return self._data.gather(self._order.rows(self._position - 1))

    def metrics(self) -> dict[str, float]:
        """Returns the present weight."""
        return {f"train/{self.name}_weight": float(self.now["weight"] * self.strength)}

    # Resuming

    def training_state(self) -> dict[str, Any]:
        """Returns where in the data it is, and by what the data is known again."""
        if self._fingerprint is None:
            return {}
        return {"seed": self._seed, "position": self._position, "fingerprint": _as_array(self._fingerprint)}

    def set_training_state(self, state: dict[str, Any]) -> None:
        """Takes back what `training_state` gave.

        Raises:
            ValueError: It does not fit, or was made with other episodes.
        """
        if not state:
            return
        seed, position = int(state["seed"]), int(state["position"])
        if not (0 <= seed < 1 << 31 and 0 <= position < 1 << 62):
            raise ValueError(f"demonstrations were at batch {position} of the order {seed}")
        mine = None if self._episodes is None else _as_array(fingerprint(self._episodes))
        if mine is not None and not np.array_equal(mine, state["fingerprint"]):
            raise ValueError("the episodes are not those that the training was interrupted with")
        self._seed, self._position = seed, position


def _as_array(mark: str) -> NDArray[np.uint8]:
    return np.frombuffer(bytes.fromhex(mark), np.uint8)


class ExpertTransitions:
    """Observations and actions of recorded transitions as a policy takes them.

    A small data set is converted once and kept on the device; of a large one only the batch is in memory.

    Args:
        transitions: Where they come from.
        policy: In whose form the actions are to be.
        device: Where the tensors are to be.
        kept_in_memory: Bytes up to which a data set counts as small.
    """

    def __init__(
        self, transitions: Transitions, policy: Policy, device: torch.device, kept_in_memory: int = _KEPT_IN_MEMORY
    ) -> None:
        self._transitions, self._policy, self._device = transitions, policy, device
        self._kept: tuple[Any, Tensor] | None = None
        observations, actions = self._read(np.zeros(1, np.int64))
        parts = [actions, *(leaf for _, leaf in leaves(observations))]
        if len(transitions) * sum(part.nbytes for part in parts) <= kept_in_memory:
            self._kept = self._read(np.arange(len(transitions)))

    def __len__(self) -> int:
        return len(self._transitions)

    def gather(self, rows: Tensor) -> tuple[Any, Tensor]:
        """Returns observations and actions of some transitions, on the device; `rows` are integers on the CPU."""
        if self._kept is None:
            return self._read(rows.numpy().astype(np.int64))
        rows = rows.to(self._device)
        return rows_of(self._kept[0], rows), self._kept[1].index_select(0, rows)

    def _read(self, indices: NDArray[np.int64]) -> tuple[Any, Tensor]:
        found = self._transitions.gather(indices)
        actions = torch.from_numpy(np.asarray(found.actions)).to(self._device)
        return as_tensors(found.observations, self._device), self._policy.from_environment(actions)
