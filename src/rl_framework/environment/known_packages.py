"""Packages whose environments are found by their id, without anybody importing the package first."""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.util import find_spec
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec

from rl_framework.errors import EnvironmentSourceError, require_extra

__all__ = [
    "FAMILIES",
    "Family",
    "environment_ids",
    "family_of",
    "known_environments",
    "near_ids",
    "register_package_of",
    "standard_wrappers",
]

_VERSION = re.compile(r"-v\d+$")


@dataclass(frozen=True)
class Family:
    """Environments that come from one package.

    Attributes:
        name: Short name; also that of the backend.
        description: What they are.
        extra: Extra of this distribution that installs what they need; None: nothing.
        modules: Top-level modules that have to be there.
        registers: Module whose import registers the ids; None: gymnasium knows them.
        ids: Pattern of their ids.
        entry_points: Prefix of the modules in which gymnasium finds them, for families that gymnasium itself registers.
        examples: Some ids.
        wrappers: Specifications of the wrappers that are usual for them, innermost first; see `standard_wrappers`.
    """

    name: str
    description: str
    extra: str | None
    modules: tuple[str, ...]
    registers: str | None
    ids: str
    entry_points: str
    examples: tuple[str, ...]
    wrappers: tuple[dict[str, Any] | str, ...] = ()

    @property
    def is_installed(self) -> bool:
        """Whether everything that they need is there; nothing is imported to find out."""
        return all(find_spec(module) is not None for module in self.modules)

    def has(self, identifier: str) -> bool:
        """Tells whether an id looks like one of these."""
        return re.match(self.ids, identifier) is not None

    def require(self, needed_for: str) -> None:
        """Checks that everything that they need is there.

        Raises:
            MissingExtraError: It is not.
        """
        if self.extra is not None:
            require_extra(self.extra, needed_for, *self.modules)

    def register(self) -> None:
        """Makes gymnasium know the ids."""
        if self.registers is not None:
            gymnasium.register_envs(importlib.import_module(self.registers))


FAMILIES = (
    Family(
        name="classic_control",
        description="small control problems, without dependencies",
        extra=None,
        modules=(),
        registers=None,
        ids=r"(CartPole|Acrobot|MountainCar|MountainCarContinuous|Pendulum)-v\d+$",
        entry_points="gymnasium.envs.classic_control",
        examples=("CartPole-v1", "Pendulum-v1", "MountainCarContinuous-v0"),
    ),
    Family(
        name="toy_text",
        description="small tables",
        extra=None,
        modules=(),
        registers=None,
        ids=r"(Blackjack|CliffWalking|CliffWalkingSlippery|FrozenLake|FrozenLake8x8|Taxi)-v\d+$",
        entry_points="gymnasium.envs.toy_text",
        examples=("FrozenLake-v1", "Taxi-v3"),
    ),
    Family(
        name="box2d",
        description="physics in two dimensions",
        extra="box2d",
        modules=("Box2D",),
        registers=None,
        ids=r"(LunarLander|LunarLanderContinuous|BipedalWalker|BipedalWalkerHardcore|CarRacing)-v\d+$",
        entry_points="gymnasium.envs.box2d",
        examples=("LunarLander-v3", "BipedalWalker-v3", "CarRacing-v3"),
    ),
    Family(
        name="mujoco",
        description="MuJoCo's robots of gymnasium",
        extra="mujoco",
        modules=("mujoco", "imageio"),
        registers=None,
        ids=r"(Ant|HalfCheetah|Hopper|Humanoid(Standup)?|Inverted(Double)?Pendulum|(Push|Reach)er|Swimmer|Walker2d)-v[45]$",
        entry_points="gymnasium.envs.mujoco",
        examples=("HalfCheetah-v5", "Hopper-v5", "Humanoid-v5"),
    ),
    Family(
        name="atari",
        description="Atari 2600 games in the Arcade Learning Environment",
        extra="atari",
        modules=("ale_py", "cv2"),
        registers="ale_py",
        ids=r"ALE/|[A-Za-z]+(-ram)?(NoFrameskip|Deterministic)-v[04]$",
        entry_points="ale_py",
        examples=("ALE/Pong-v5", "ALE/Breakout-v5", "PongNoFrameskip-v4"),
        wrappers=("atari", {"type": "frame_stack", "stack_size": 4}),
    ),
    Family(
        name="minigrid",
        description="grid worlds with missions, MiniGrid and BabyAI",
        extra="minigrid",
        modules=("minigrid",),
        registers="minigrid",
        ids=r"MiniGrid-|BabyAI-",
        entry_points="minigrid",
        examples=("MiniGrid-Empty-5x5-v0", "MiniGrid-DoorKey-5x5-v0", "BabyAI-GoToRedBallGrey-v0"),
        wrappers=("minigrid_image", "flatten_observation"),
    ),
    Family(
        name="dm_control",
        description="DeepMind's control suite, through shimmy",
        extra="dm-control",
        modules=("shimmy", "dm_control", "mujoco"),
        registers="shimmy",
        ids=r"dm_control/",
        entry_points="shimmy",
        examples=("dm_control/cartpole-balance-v0", "dm_control/walker-walk-v0", "dm_control/cheetah-run-v0"),
        wrappers=("flatten_observation",),
    ),
    Family(
        name="robotics",
        description="goals for robots, gymnasium-robotics",
        extra="robotics",
        modules=("gymnasium_robotics", "mujoco"),
        registers="gymnasium_robotics",
        ids=r"(Fetch|Hand(Reach|Manipulate)|Adroit|PointMaze_|AntMaze_|FrankaKitchen-|MaMuJoCo)",
        entry_points="gymnasium_robotics",
        examples=("FetchReach-v4", "PointMaze_UMaze-v3", "AdroitHandDoor-v1", "HandReach-v3"),
    ),
    Family(
        name="seals",
        description="tasks without hidden signs of their end, for imitation learning",
        extra="imitation",
        modules=("seals",),
        registers="seals",
        ids=r"seals/",
        entry_points="seals",
        examples=("seals/CartPole-v0", "seals/MountainCar-v0"),
    ),
)


def family_of(identifier: str) -> Family | None:
    """Returns the family of an id, or None; a registered id belongs to the package that registered it."""
    spec = gymnasium.registry.get(identifier)
    if spec is None:
        return next((family for family in FAMILIES if family.has(identifier)), None)
    entry_point: Any = spec.entry_point
    if not isinstance(entry_point, str):  # a function, or one with some of its arguments
        entry_point = str(getattr(getattr(entry_point, "func", entry_point), "__module__", ""))
    module = entry_point.partition(":")[0]
    return next((f for f in FAMILIES if module == f.entry_points or module.startswith(f"{f.entry_points}.")), None)


def register_package_of(source: str | EnvSpec, argument: str = "environment") -> None:
    """Sees to it that gymnasium knows an id, if it is one of a known package.

    Args:
        source: An id, or a spec. Ids with a module prefix, and ids that nobody knows, are left to gymnasium.
        argument: Name of the argument it came from, for errors.

    Raises:
        MissingExtraError: The package is not installed.
        EnvironmentSourceError: It is installed, and its import fails; or the id is one of Isaac Lab.
    """
    identifier = source if isinstance(source, str) else source.id
    if ":" in identifier:
        return
    if identifier.startswith("Isaac-") and identifier not in gymnasium.registry:
        from rl_framework.environment.backends import explain_isaac

        raise EnvironmentSourceError(argument, identifier, explain_isaac("isaac"))
    family = family_of(identifier)
    if family is None:
        return
    family.require(f"{argument}={identifier!r}")
    if isinstance(source, str) and identifier not in gymnasium.registry:
        try:
            family.register()
        except Exception as error:
            raise EnvironmentSourceError(
                argument, identifier, f"the package {family.registers!r} cannot be imported: {error}"
            ) from error


def near_ids(identifier: str, count: int = 3) -> list[str]:
    """Returns registered ids, and examples of known packages, that look like one, nearest first."""
    known = {name.lower(): name for name in [*gymnasium.registry, *(id_ for f in FAMILIES for id_ in f.examples)]}
    # A version that does not exist is not what makes an id another one; nor is a namespace that was left out.
    bare = {_VERSION.sub("", name): full for name, full in sorted(known.items())}
    wanted = _VERSION.sub("", identifier.lower())
    same = [full for name, full in bare.items() if name.rpartition("/")[2] == wanted]
    close = [bare[match] for match in get_close_matches(wanted, bare, n=count, cutoff=0.7)]
    return list(dict.fromkeys([*same, *close]))[:count]


def known_environments() -> list[Family]:
    """Returns the families of environments that can be named, installed or not; imports none of them."""
    return list(FAMILIES)


def environment_ids(families: Sequence[str] | None = None) -> dict[str, list[str]]:
    """Returns the ids of the families that are installed, which imports their packages.

    Args:
        families: Names of the families; None: all.

    Returns:
        By family, sorted; nothing for those that are not installed.
    """
    wanted = [f for f in FAMILIES if f.is_installed and (families is None or f.name in families)]
    for family in wanted:
        family.register()
    found: dict[str, list[str]] = {family.name: [] for family in wanted}
    for identifier in sorted(gymnasium.registry):
        owner = family_of(identifier)
        if owner is not None and owner.name in found:
            found[owner.name].append(identifier)
    return found


def standard_wrappers(identifier: str) -> list[dict[str, Any] | str]:
    """Returns the wrappers that are usual for an environment, in which a plain network can learn.

    Nothing puts them on unasked: `agent.train(identifier, wrappers=standard_wrappers(identifier))`.

    Args:
        identifier: An id, such as "ALE/Pong-v5".

    Returns:
        Specifications, innermost first; empty for most environments.
    """
    family = family_of(identifier)
    return [] if family is None else [each if isinstance(each, str) else dict(each) for each in family.wrappers]
