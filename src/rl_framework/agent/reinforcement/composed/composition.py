"""Everything of a composed agent that exists once the spaces are known."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

import gymnasium
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rl_framework import registry
from rl_framework.agent.network.policy import Policy
from rl_framework.agent.network.trunk import Trunk
from rl_framework.agent.reinforcement.composed.contract import check_declared
from rl_framework.agent.reinforcement.composed.moments import ObservationNormaliser, RewardNormaliser
from rl_framework.agent.reinforcement.composed.rollout import Rollout
from rl_framework.agent.reinforcement.composed.settings import Settings
from rl_framework.agent.reinforcement.composed.setup import Setup
from rl_framework.agent.reinforcement.composed.update import Update
from rl_framework.agent.reinforcement.parts.part import Part
from rl_framework.agent.reinforcement.schedules import to_schedule
from rl_framework.errors import ArgumentError, PluginError, UnknownNameError
from rl_framework.seeding import derive_seed, isolated_random_state

__all__ = ["RECORDED_IF_ASKED", "Composition", "check_together", "resolve_parts"]

RECORDED_IF_ASKED = frozenset({"next_observations"})
"""What a rollout has only if a part wants it recorded."""


class Composition(nn.Module):
    """Parts with their networks, the policy, and the optimizer.

    Args:
        parts: The parts, built by nobody yet.
        settings: What else the user chose.
        observation_space: Space of one observation.
        action_space: Space of one action.
        device: Where everything is computed.
        seed: Root of the initial weights and of the random numbers of parts.

    Attributes:
        generators: Where actions and the randomness of parts are drawn from, on the device; and the order of batches.

    Raises:
        ArgumentError: The parts do not go together.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        settings: Settings,
        observation_space: gymnasium.Space[Any],
        action_space: gymnasium.Space[Any],
        device: torch.device,
        seed: int,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.device = device
        self.generators = (torch.Generator(device), torch.Generator())
        self.seed(seed)
        check_together(parts)
        for part in parts:
            if part.has_agent:
                raise ArgumentError("parts", part.name, "belongs to another agent already", "Make another one.")
        self.normaliser = _normaliser(observation_space).to(device) if settings.normalize_observations else None
        setup = Setup(
            observation_space, action_space, dict(settings.networks), device, self.generators[0], self.normaliser
        )
        named = _named(parts)
        with isolated_random_state(derive_seed(seed, "networks")):
            # Who makes the policy says which distribution it has.
            for part in sorted(parts, key=lambda part: "policy" not in part.provides):
                part.start_schedules(device)
                part.build(setup)
                part.to(device)
        unknown = set(settings.networks) - setup.asked - {"default"}
        if unknown:
            raise UnknownNameError(
                "networks", min(unknown), setup.asked, "These are the trunks that the parts of this agent have."
            )
        self.networks = setup.networks
        self.parts = nn.ModuleDict(named)
        _check_owners(self.named, self.networks)
        if "policy" not in self.networks:
            raise ArgumentError("parts", list(self.named), "none of them makes a policy", "Add one that acts: PPO().")
        self._check_sequences()
        self.reward_normaliser = _reward_normaliser(parts).to(device) if settings.normalize_rewards else None
        self._learning_rate = to_schedule(settings.learning_rate, "learning_rate")
        self.optimizer = _optimizer(settings, self._rate(1.0), self)
        self._frozen = [network for part in parts for network in part.children() if _is_frozen(network)]
        for part in parts:
            part.has_agent = True

    @property
    def policy(self) -> Policy:
        """What acts."""
        return self.networks["policy"]  # type: ignore[return-value]

    @property
    def named(self) -> dict[str, Part]:
        """The parts, by the name under which they are tracked and saved."""
        return dict(self.parts.items())  # type: ignore[arg-type]

    @property
    def source(self) -> Part:
        """The part that decides what is collected and learned from."""
        return next(part for part in self.named.values() if decides(part))

    @property
    def max_grad_norm(self) -> float | None:
        """To which the norm of all gradients together is limited; None: it is not."""
        given = self.settings.max_grad_norm
        return self.source.max_grad_norm if isinstance(given, str) else given

    def seed(self, seed: int) -> None:
        """Seeds what is drawn from here on; not the weights."""
        for index, generator in enumerate(self.generators):
            generator.manual_seed(derive_seed(seed, "generator", index))

    @property
    def trunks(self) -> list[Trunk]:
        """All trunks that parts share or keep."""
        found = {id(module): module for module in self.modules() if isinstance(module, Trunk)}
        return list(found.values())

    def start(self, n_slots: int) -> None:
        """Makes what depends on the number of slots."""
        if self.reward_normaliser is not None:
            self.reward_normaliser.start(n_slots)

    def train(self, mode: bool = True) -> Self:
        """Changes between training and evaluation, by which dropout and the like work; what never learns stays put."""
        super().train(mode)
        for network in self._frozen:
            network.eval()
        return self

    def follow_schedules(self, progress_remaining: float) -> None:
        """Sets everything that changes while training goes on."""
        rate = self._rate(progress_remaining)
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        for part in self.named.values():
            part.follow_schedules(progress_remaining)

    def learn_from(self, rollout: Rollout, update: Update) -> None:
        """Lets parts annotate a rollout and takes the steps that it gives rise to."""
        with torch.no_grad():
            if self.normaliser is not None:
                self.normaliser.update(rollout.seen())
            if self.reward_normaliser is not None:
                self.reward_normaliser.update(rollout["rewards"], rollout.ended, rollout.acted)
                rollout["rewards"] = self.reward_normaliser(rollout["rewards"])
            for part in self.named.values():
                part.reward(rollout)
            for part in self.named.values():
                part.annotate(rollout)
            for trunk in self.trunks:
                if trunk.state_size:
                    rollout.features(trunk)  # notes the states in which sequences begin, if no part has asked for them
        self.train()
        try:
            for batch in self.source.batches(rollout):
                update(batch)
        finally:  # also if somebody interrupts: the agent can be used afterwards
            update.finish()
            self.eval()

    def metrics(self) -> dict[str, float]:
        """Returns what parts want to be tracked, and the learning rate."""
        told = {"train/learning_rate": float(self.optimizer.param_groups[0]["lr"])}
        for part in self.named.values():
            told |= {name: float(value) for name, value in part.metrics().items()}
        return told

    def tensors(self) -> dict[str, Tensor]:
        """Returns parameters and buffers by name, each once, however many parts share it."""
        seen: set[int] = set()
        found = {}
        for name, tensor in self.state_dict(keep_vars=True).items():
            if isinstance(tensor, Tensor) and id(tensor) not in seen:
                seen.add(id(tensor))
                found[name] = tensor
        return found

    def _check_sequences(self) -> None:
        """Refuses rollouts that cannot be cut into the sequences from which recurrent networks learn.

        Raises:
            ArgumentError: One cannot.
        """
        length = min((trunk.sequence_length for trunk in self.trunks if trunk.state_size), default=1)
        steps = self.source.rollout_length
        assert steps is not None  # of the part that decides
        if steps % length:
            raise ArgumentError(
                "sequence_length",
                length,
                f"rollouts of {steps} steps, as {self.source.name} collects, cannot be cut into sequences of {length}",
                f"Choose a divisor of {steps} for the recurrent network, or other rollouts.",
            )

    def _rate(self, progress_remaining: float) -> float:
        return float(self._learning_rate(progress_remaining) if callable(self._learning_rate) else self._learning_rate)


def resolve_parts(parts: Any) -> list[Part]:
    """Makes parts of their names and data.

    Args:
        parts: `Part`s, registered names ("ppo"), or data (`{"type": "ppo", "n_steps": 128}`).

    Raises:
        UnknownNameError: No such part.
        ArgumentError: There are none, one is no part, or its arguments do not fit.
    """
    if isinstance(parts, str | Mapping | Part):
        parts = [parts]
    if not isinstance(parts, Iterable):
        raise ArgumentError("parts", parts, "is no list of parts", "Such as ComposedAgent(parts=[PPO(), RND()]).")
    made = [_resolve(part) for part in parts]
    if not made:
        raise ArgumentError("parts", parts, "holds none", "Such as ComposedAgent(parts=[PPO(), RND()]).")
    if len({id(part) for part in made}) != len(made):
        raise ArgumentError("parts", made, "one part is there twice", "Make another one.")
    return made


def _resolve(given: Any) -> Part:
    fields: dict[str, Any] = {}
    target = given
    if isinstance(given, Mapping):
        fields = dict(given)
        target = fields.pop("type", None)
    if isinstance(target, str):
        target = registry.parts.get(target, "parts")
    if isinstance(target, type) and issubclass(target, Part):
        try:
            target = target(**fields)
        except TypeError as error:
            raise ArgumentError("parts", given, f"does not fit {target.__name__}: {error}") from error
    if not isinstance(target, Part):
        raise ArgumentError("parts", given, "is no part", "Give Part objects, registered names, or data.")
    return target


def check_together(parts: Sequence[Part]) -> None:
    """Checks that parts offer each other what they need.

    Raises:
        ArgumentError: Something is missing, offered twice, or not what the contract of a part says.
    """
    for part in parts:
        check_declared(part)
    for part in parts:
        part.join(parts)
    offered = {what for part in parts for what in part.provides}
    for part in parts:
        unknown = part.records - RECORDED_IF_ASKED
        if unknown:
            raise ArgumentError(
                "parts",
                [each.name for each in parts],
                f"{part.name} wants {' and '.join(sorted(unknown))} recorded, which nobody records",
                f"Known: {', '.join(sorted(RECORDED_IF_ASKED))}.",
            )
        missing = part.needs - offered
        if missing:
            raise ArgumentError(
                "parts",
                [each.name for each in parts],
                f"{part.name} needs {' and '.join(sorted(missing))}, which none of the others provides",
                f"Known: {_providers(missing)}.",
            )
    deciding = [part.name for part in parts if decides(part)]
    if len(deciding) != 1:
        problem = "none of them decides" if not deciding else f"{' and '.join(deciding)} decide"
        raise ArgumentError(
            "parts",
            [each.name for each in parts],
            f"{problem} what is collected and learned from",
            "Exactly one must, such as PPO() or Replay().",
        )


def _check_owners(parts: Mapping[str, Part], networks: nn.ModuleDict) -> None:
    """Refuses two parts that own the same parameters; what they share by name belongs to neither."""
    shared = {id(parameter) for parameter in networks.parameters()}
    owners: dict[int, str] = {}
    for name, part in parts.items():
        for own, parameter in part.named_parameters():
            owner = owners.setdefault(id(parameter), name)
            if owner != name and id(parameter) not in shared:
                raise ArgumentError(
                    "parts",
                    list(parts),
                    f"{owner} and {name} own the same parameters ({own!r} of {name})",
                    "Share networks by name: setup.trunk('name'), or setup.network('name', make).",
                )


def _is_frozen(network: nn.Module) -> bool:
    """Tells whether a network has weights and none of them learns: a target, a reference."""
    learn = [parameter.requires_grad for parameter in network.parameters()]
    return bool(learn) and not any(learn)


def decides(part: Part) -> bool:
    """Tells whether a part decides what is collected and learned from."""
    return part.rollout_length is not None


def _providers(wanted: frozenset[str]) -> str:
    names = []
    for name in registry.parts:
        try:
            provided: frozenset[str] = getattr(registry.parts.get(name), "provides", frozenset())
        except PluginError:  # somebody else's, which is no part of this mistake
            continue
        if provided & wanted:
            names.append(f"{name!r} ({', '.join(sorted(provided & wanted))})")
    return ", ".join(names) or "none"


def _named(parts: Sequence[Part]) -> dict[str, Part]:
    """Gives every part a name that no other has."""
    named: dict[str, Part] = {}
    for part in parts:
        kind, number = part.kind, 2
        name = kind
        while name in named:
            name, number = f"{kind}_{number}", number + 1
        part.name = name
        named[name] = part
    return named


def _normaliser(space: gymnasium.Space[Any]) -> ObservationNormaliser:
    members = space.spaces if isinstance(space, spaces.Dict) else {"": space}
    shapes = {
        key: member.shape
        for key, member in members.items()
        if isinstance(member, spaces.Box) and member.dtype.kind == "f"  # type: ignore[union-attr]
    }
    if not shapes:
        raise ArgumentError(
            "normalize_observations", True, f"there is nothing to normalise in {space}", "Leave it out."
        )
    return ObservationNormaliser(shapes)


def _reward_normaliser(parts: Sequence[Part]) -> RewardNormaliser:
    # Of whoever discounts; the defaults of all parts agree.
    discounts = [gamma for part in parts if isinstance(gamma := getattr(part, "gamma", None), float)]
    return RewardNormaliser(discounts[0] if discounts else 0.99)


def _optimizer(settings: Settings, rate: float, module: nn.Module) -> torch.optim.Optimizer:
    fields = dict(settings.optimizer)
    kind: Callable[..., torch.optim.Optimizer] = registry.optimizers.get(fields.pop("type"), "optimizer")
    learned = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if kind in (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD):
        fields.setdefault("fused", True)  # one call for all parameters
    try:
        return kind(learned, lr=rate, **fields)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentError("optimizer", dict(settings.optimizer), f"cannot be used: {error}") from error
