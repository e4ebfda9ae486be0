"""Which keys mean which action."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import gymnasium
import numpy as np
from gymnasium import spaces

from rl_framework.errors import ArgumentError

__all__ = ["RESERVED", "Keymap", "keymap_for"]

RESERVED = {"escape": "ends", "r": "begins the episode anew", "p": "pauses"}
"""Keys that are not for actions."""

_Mapping = Mapping[Any, Any]

_ARROWS = ("left", "down", "right", "up")

# By name in gymnasium's registry, without namespace and version, and kind of action space. An empty combination is
# what is done while no key is held; without one the environment waits for a key.
_KNOWN: dict[tuple[str, type[Any]], _Mapping] = {
    ("Acrobot", spaces.Discrete): {(): 1, "left": 0, "right": 2},
    ("CarRacing", spaces.Box): {
        (): (0.0, 0.0, 0.0),
        "left": (-1.0, 0.0, 0.0),
        "right": (1.0, 0.0, 0.0),
        "up": (0.0, 1.0, 0.0),
        "down": (0.0, 0.0, 0.8),
    },
    ("CartPole", spaces.Discrete): {"left": 0, "right": 1},
    ("CliffWalking", spaces.Discrete): {"up": 0, "right": 1, "down": 2, "left": 3},
    ("FrozenLake", spaces.Discrete): dict(zip(_ARROWS, range(4), strict=True)),
    ("FrozenLake8x8", spaces.Discrete): dict(zip(_ARROWS, range(4), strict=True)),
    ("LunarLander", spaces.Discrete): {(): 0, "left": 1, "up": 2, "right": 3},
    ("LunarLander", spaces.Box): {(): (0.0, 0.0), "left": (0.0, -1.0), "right": (0.0, 1.0), "up": (1.0, 0.0)},
    ("MountainCar", spaces.Discrete): {(): 1, "left": 0, "right": 2},
    ("MountainCarContinuous", spaces.Box): {(): (0.0,), "left": (-1.0,), "right": (1.0,)},
    ("Pendulum", spaces.Box): {(): (0.0,), "left": (2.0,), "right": (-2.0,)},
    ("Taxi", spaces.Discrete): {"down": 0, "up": 1, "right": 2, "left": 3, "z": 4, "x": 5},
}
_KNOWN["LunarLanderContinuous", spaces.Box] = _KNOWN["LunarLander", spaces.Box]


class Keymap:
    """Turns the keys that are held into an action.

    The largest combination of which all keys are held counts; of equally large ones, the one with the key that was
    pressed last. For a `Box`, the actions of single keys are added up, and kept within the bounds, where their
    combination is not in the mapping.

    Args:
        actions: Action by combination of key codes.
        action_space: Where the actions belong.
        noop: Action while no key is held; None: the environment waits.
    """

    def __init__(
        self, actions: Mapping[frozenset[int], Any], action_space: gymnasium.Space[Any], noop: Any = None
    ) -> None:
        self.codes = frozenset(code for combination in actions for code in combination)
        self._actions = {combination: action for combination, action in actions.items() if combination}
        self._noop = noop
        self._box = action_space if isinstance(action_space, spaces.Box) else None

    def action(self, held: Iterable[int]) -> Any:
        """Returns the action for keys that are held, in the order in which they were pressed; None: wait."""
        order = {code: place for place, code in enumerate(held) if code in self.codes}
        if not order:
            return self._noop
        pressed = frozenset(order)
        if pressed in self._actions:
            return self._actions[pressed]
        if self._box is not None:
            parts = [self._actions[single] for code in order if (single := frozenset([code])) in self._actions]
            if parts:
                return np.clip(np.sum(parts, axis=0), self._box.low, self._box.high).astype(self._box.dtype)
        fitting = [combination for combination in self._actions if combination <= pressed]
        if not fitting:
            return self._noop
        return self._actions[max(fitting, key=lambda keys: (len(keys), max(order[code] for code in keys)))]


class KeyNames(Protocol):
    """What `pygame.key` knows; without a display it knows nothing."""

    def key_code(self, name: str) -> int:
        """Returns the code of a key; raises a `ValueError` if there is none of this name."""

    def name(self, key: int) -> str:
        """Returns the name of a key; empty if there is none of this code."""


def keymap_for(keys: _Mapping | None, noop: Any, environment: gymnasium.Env[Any, Any], names: KeyNames) -> Keymap:
    """Finds out which keys mean which action.

    Args:
        keys: What the user said, or None.
        noop: Action while no key is held, or None.
        environment: Where to act.
        names: `pygame.key`.

    Raises:
        ArgumentError: There is no mapping, or one with unknown keys or with actions that the environment does not take.
    """
    if keys is None:
        keys = _mapping_of(environment, names)
    if not isinstance(keys, Mapping) or not any(_is_combination(key) for key in keys):
        raise ArgumentError("keys", keys, "must be a mapping from keys to actions, such as {'left': 0, 'right': 1}")
    space = environment.action_space
    actions: dict[frozenset[int], Any] = {}
    for key, action in keys.items():
        codes = frozenset(_code(name, names, keys) for name in _names_of(key, names))
        for code in codes:
            if names.name(code) in RESERVED:
                problem = f"the key {names.name(code)!r} {RESERVED[names.name(code)]}"
                raise ArgumentError("keys", keys, problem, "Take another one for the action.")
        actions[codes] = _action(action, space, f"keys[{key!r}]")
    idle = actions.get(frozenset()) if noop is None else _action(noop, space, "noop")
    return Keymap(actions, space, idle)


def _mapping_of(environment: gymnasium.Env[Any, Any], names: KeyNames) -> _Mapping:
    name = environment.spec.name if environment.spec is not None else ""
    for (known, kind), mapping in _KNOWN.items():
        if name == known and isinstance(environment.action_space, kind):
            return mapping
    try:
        own = environment.get_wrapper_attr("get_keys_to_action")
    except AttributeError:
        raise ArgumentError(
            "keys",
            None,
            f"nobody knows which keys are for {environment.spec.id if environment.spec else environment}, whose "
            f"actions are {environment.action_space}",
            "Give them, for example keys={'left': 0, 'right': 1, ('left', 'up'): 2}.",
        ) from None
    # gymnasium's own player takes "wa" for w and a together.
    return {
        tuple(key) if isinstance(key, str) and key.isalnum() and not _is_key(key, names) else key: action
        for key, action in dict(own()).items()
    }


def _is_key(name: str, names: KeyNames) -> bool:
    try:
        names.key_code(name)
    except ValueError:
        return False
    return True


def _is_combination(key: Any) -> bool:
    return key not in ((), "", None)


def _names_of(key: Any, names: KeyNames) -> tuple[Any, ...]:
    if not isinstance(key, str):
        return (key,) if isinstance(key, int) else tuple(key or ())
    return (key,) if _is_key(key, names) else tuple(key.split("+"))


def _code(name: Any, names: KeyNames, keys: Any) -> int:
    known = "Names are pygame's: 'left', 'space', 'a', 'return'."
    if isinstance(name, int) and not isinstance(name, bool):
        # pygame 1 had other codes, which some environments still name.
        if not names.name(name):
            raise ArgumentError("keys", keys, f"there is no key with the code {name}", known)
        return name
    try:
        return names.key_code(name)
    except (ValueError, TypeError):
        raise ArgumentError("keys", keys, f"there is no key {name!r}", known) from None


def _action(action: Any, space: gymnasium.Space[Any], argument: str) -> Any:
    checked: Any = action
    if not isinstance(space, spaces.Discrete):
        try:
            checked = np.asarray(action, dtype=space.dtype)
        except (TypeError, ValueError):
            raise ArgumentError(argument, action, f"is no action of {space}") from None
    if isinstance(action, bool) or not space.contains(checked):
        raise ArgumentError(argument, action, f"is no action of {space}")
    return checked
