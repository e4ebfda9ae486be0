"""The one small class to implement for an environment that the framework does not know."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from copy import deepcopy
from typing import Any, ClassVar

import gymnasium
import numpy as np
from numpy.typing import NDArray

from rl_framework.environment.batched.action_masks import mask_width
from rl_framework.environment.batched.batch import BatchedEnvironment, SlotStep, copy_info
from rl_framework.errors import ArgumentError, RLFrameworkError, SpaceMismatchError

__all__ = ["AdaptedEnvironment", "AdaptedSlots", "EnvironmentAdapter", "MultiSlotAdapter"]


class EnvironmentAdapter(ABC):
    """Translates one simulator into the field's terms. Subclass it, then register the class by name.

    `step` and `reset` speak the simulator's own language; `get_observation` and `get_action` translate, and are
    called by the door. The door also starts new episodes, batches several adapters, and checks numbers.

    Example:
        ```python
        class MyAdapter(EnvironmentAdapter):
            @classmethod
            def accepts(cls, source):
                return isinstance(source, MySimulator)

            def setup(self, source):
                self.simulator = source
                self.observation_space = gymnasium.spaces.Box(-1, 1, (3,))
                self.action_space = gymnasium.spaces.Discrete(2)

            def reset(self, *, seed=None, options=None):
                return self.simulator.restart(seed), {}

            def step(self, action):
                state, score, over = self.simulator.advance(action)
                return state, score, over, False, {}


        rl_framework.register_environment_adapter("my_simulator", MyAdapter)
        ```

    Attributes:
        observation_space: Space of one observation as the agent sees it; set it in `setup`.
        action_space: Space of one action as the agent chooses it; set it in `setup`.
        metadata: As in gymnasium: `render_modes`, `render_fps`; and `"replayable": False` for what must not repeat its
            actions when a training is resumed, such as a robot.
        render_mode: What `render` returns, as in gymnasium, or None.
    """

    observation_space: gymnasium.Space[Any]
    action_space: gymnasium.Space[Any]
    metadata: ClassVar[dict[str, Any]] = {}
    render_mode: str | None = None

    @classmethod
    @abstractmethod
    def accepts(cls, source: object) -> bool:
        """Tells whether this adapter can take what the user gave as an environment."""

    @abstractmethod
    def setup(self, source: Any, **environment_kwargs: Any) -> None:
        """Connects to the simulator and sets the two spaces.

        Args:
            source: What the user gave: what `accepts` said yes to, or the adapter's registered name.
            environment_kwargs: What the user gave as `environment_kwargs`.
        """

    @abstractmethod
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Starts an episode.

        Returns:
            The simulator's observation and an info dictionary.
        """

    @abstractmethod
    def step(self, action: Any) -> Any:
        """Advances the simulator by one decision.

        Args:
            action: What `get_action` made of the agent's action.

        Returns:
            `(observation, reward, terminated, truncated, info)` with the simulator's observation.
        """

    def get_observation(self, observation: Any) -> Any:
        """Translates the simulator's observation into a member of `observation_space`."""
        return observation

    def get_action(self, action: Any) -> Any:
        """Translates a member of `action_space` into what the simulator's `step` takes."""
        return action

    def render(self) -> Any:
        """Returns a frame in the form that `render_mode` names."""
        return None

    def close(self) -> None:
        """Frees what `setup` took.

        Called only when `source` was a name, a path, a class, or what a factory made: a simulator that the user
        holds is the user's to close.
        """
        return


class MultiSlotAdapter(EnvironmentAdapter):
    """An adapter for a world in which several agents act at once, each in a slot of its own, and may come and go.

    Attributes:
        n_slots: How many agents at most; set it in `setup`.
        waits: Whether `reset` and `step` wait for another process. Several such worlds are stepped at the same time,
            each in a thread of its own.
    """

    n_slots: int
    waits: ClassVar[bool] = False

    @abstractmethod
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Starts the world.

        Returns:
            `(observations, infos, present)`: a list of `n_slots` of the simulator's observations (anything in the
            observation space where nobody is), a list of `n_slots` info dictionaries, and a bool array of shape
            `(n_slots,)`.
        """

    @abstractmethod
    def step(self, action: Any) -> SlotStep:
        """Advances the world by one decision of everybody present.

        Args:
            action: A list of `n_slots` actions from `get_action`; None where nobody is.

        Returns:
            A `SlotStep` whose `observations` is a list of `n_slots` of the simulator's observations. The adapter
            itself starts the next episode of a slot in the same step, or leaves the slot empty (`present` False).
            Agents need not all act at the same time: see `SlotStep.pending`.
        """


class AdaptedEnvironment(gymnasium.Env[Any, Any]):
    """One single-slot adapter as a gymnasium environment."""

    def __init__(self, adapter: EnvironmentAdapter) -> None:
        self.adapter = adapter
        self.observation_space = adapter.observation_space
        self.action_space = adapter.action_space
        self.metadata = dict(adapter.metadata)
        self.render_mode = adapter.render_mode

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Starts an episode; also seeds this object's own generator, as gymnasium asks."""
        super().reset(seed=seed)
        observation, info = self.adapter.reset(seed=seed, options=options)
        return self.adapter.get_observation(observation), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Advances the simulator by one decision."""
        observation, reward, terminated, truncated, info = self.adapter.step(self.adapter.get_action(action))
        return self.adapter.get_observation(observation), reward, bool(terminated), bool(truncated), info

    def render(self) -> Any:
        """Returns the adapter's frame."""
        return self.adapter.render()

    def get_wrapper_attr(self, name: str) -> Any:
        """Reads an attribute of this object or of the adapter."""
        return getattr(self, name) if hasattr(self, name) else getattr(self.adapter, name)

    def set_wrapper_attr(self, name: str, value: Any, *, force: bool = True) -> bool:
        """Sets an attribute of this object, if it has it, or of the adapter."""
        if hasattr(self, name):
            setattr(self, name, value)
            return True
        if force or hasattr(self.adapter, name):
            setattr(self.adapter, name, value)
            return True
        return False

    def close(self) -> None:
        """Closes the adapter."""
        self.adapter.close()


class AdaptedSlots(BatchedEnvironment):
    """One or several multi-slot adapters, their slots side by side.

    Args:
        adapters: Adapters after `setup`.
        owned: Which of them this batch closes when it is closed.
        argument: Name of the argument they came from, for errors.
    """

    may_be_absent = True

    def __init__(
        self, adapters: Sequence[MultiSlotAdapter], owned: Sequence[bool], argument: str = "environments"
    ) -> None:
        first = adapters[0]
        for index, adapter in enumerate(adapters):
            if (adapter.observation_space, adapter.action_space) != (first.observation_space, first.action_space):
                raise SpaceMismatchError(argument, adapters, f"adapter {index} has other spaces than adapter 0")
            if adapter.n_slots < 1:
                raise ArgumentError(argument, adapter, "an adapter needs at least one slot", "Set n_slots in setup.")
        self.adapters = list(adapters)
        self.metadata = dict(first.metadata)
        self.render_mode = first.render_mode
        ends = np.cumsum([adapter.n_slots for adapter in adapters])
        self._slices = [
            slice(int(end) - adapter.n_slots, int(end)) for end, adapter in zip(ends, adapters, strict=True)
        ]
        super().__init__(int(ends[-1]), first.observation_space, first.action_space)
        name = self.metadata.get("name")
        self.environment_id = name if isinstance(name, str) else None
        self.vectorization = "adapter"
        self.vectorization_reason = "the adapter has a slot for every agent"
        self._owned = list(owned)
        self._pending = np.zeros(self.num_envs, dtype=np.bool_)
        self._decided: Any = None  # the actions of those who are pending
        self._threads: ThreadPoolExecutor | None = None
        if len(adapters) > 1 and all(adapter.waits for adapter in adapters):
            self._threads = ThreadPoolExecutor(len(adapters), thread_name_prefix="adapter")

    def _reset(self, seeds: list[int | None], options: dict[str, Any] | None) -> tuple[Any, list[dict[str, Any]]]:
        observations: list[Any] = []
        infos: list[dict[str, Any]] = []
        masks: list[NDArray[np.bool_]] = []

        def reset(adapter: MultiSlotAdapter, where: slice) -> Any:
            return adapter.reset(seed=seeds[where.start], options=options)

        begun = self._for_each(reset)
        for adapter, (raw, raw_infos, present) in zip(self.adapters, begun, strict=True):
            observations += [adapter.get_observation(observation) for observation in raw]
            infos += [copy_info(info) for info in raw_infos]
            masks.append(np.asarray(present, dtype=np.bool_))
        self.present = np.concatenate(masks)
        self._pending[:] = False
        return self.stack(observations), infos

    def _step(self, actions: Any) -> SlotStep:
        decided = self.present
        taken, actions = actions, self.split_actions(actions)
        observations = []
        final_observations: dict[int, Any] = {}
        reset_infos: dict[int, dict[str, Any]] = {}

        def advance(adapter: MultiSlotAdapter, where: slice) -> SlotStep:
            slots = range(where.start, where.stop)
            return adapter.step([adapter.get_action(actions[i]) if decided[i] else None for i in slots])

        steps = self._for_each(advance)
        for adapter, where, step in zip(self.adapters, self._slices, steps, strict=True):
            observations += [adapter.get_observation(observation) for observation in step.observations]
            for index, observation in step.final_observations.items():
                final = self.copy_observation(adapter.get_observation(observation))
                final_observations[where.start + index] = final
            reset_infos |= {where.start + index: copy_info(info) for index, info in step.reset_infos.items()}
        self.present = np.concatenate([np.asarray(step.present, dtype=np.bool_) for step in steps])
        waited = self._pending
        self._pending = self._pending_after(steps, decided | waited)
        acted = (decided | waited) & ~self._pending
        made_with = self._actions_of(taken, decided, waited & acted)
        terminated = np.concatenate([step.terminated for step in steps]) & acted
        truncated = np.concatenate([step.truncated for step in steps]) & acted
        left = acted & ~self.present & ~terminated & ~truncated
        # An agent that leaves without a word has not reached the end of its task: its episode was cut.
        truncated = truncated | left
        batch = self.stack(observations)
        for index in map(int, np.flatnonzero(terminated | truncated)):
            if index in final_observations:
                continue
            if self.present[index]:
                raise RLFrameworkError(
                    f"the adapter began the next episode of slot {index} without the final observation of the last "
                    "one: put it into `final_observations` of the SlotStep"
                )
            final_observations[index] = self.observation_of(batch, index)
        return SlotStep(
            observations=batch,
            rewards=np.where(acted, np.concatenate([step.rewards for step in steps]), 0.0),
            terminated=terminated,
            truncated=truncated,
            infos=[copy_info(info) for step in steps for info in step.infos],
            acted=acted,
            present=self.present,
            final_observations=final_observations,
            reset_infos=reset_infos,
            pending=self._pending if self._pending.any() else None,
            actions=made_with,
        )

    def _for_each(self, call: Callable[[MultiSlotAdapter, slice], Any]) -> list[Any]:
        if self._threads is None:
            return [call(*pair) for pair in zip(self.adapters, self._slices, strict=True)]
        return list(self._threads.map(call, self.adapters, self._slices))

    def _pending_after(self, steps: Sequence[SlotStep], open_decisions: NDArray[np.bool_]) -> NDArray[np.bool_]:
        if all(step.pending is None for step in steps):
            return np.zeros(self.num_envs, dtype=np.bool_)
        parts = [
            np.zeros(len(step.present), dtype=np.bool_) if step.pending is None else np.asarray(step.pending)
            for step in steps
        ]
        pending: NDArray[np.bool_] = np.concatenate(parts) & open_decisions
        wrong = pending & (self.present | np.concatenate([step.terminated | step.truncated for step in steps]))
        if wrong.any():
            raise RLFrameworkError(
                f"the adapter says that slot {int(np.flatnonzero(wrong)[0])} is pending, and also that it is present "
                "or ended: an agent that is asked again, or ends, has been told what came of its action"
            )
        return pending

    def _actions_of(self, taken: Any, decided: NDArray[np.bool_], late: NDArray[np.bool_]) -> Any:
        """Keeps the actions of who is pending; returns those of all transitions, or None if nobody's came late."""
        if not self._pending.any() and not late.any():
            return None
        made_with = deepcopy(taken)
        if late.any():
            _copy_rows(self._decided, made_with, late)
        if self._decided is None:
            self._decided = deepcopy(taken)
        _copy_rows(taken, self._decided, decided & self._pending)
        return made_with if late.any() else None

    def action_masks(self) -> NDArray[np.bool_]:
        """Returns which actions are allowed now; all of them while nobody is asked."""
        try:
            return super().action_masks()
        except AttributeError:
            width = mask_width(self.single_action_space)
            if self.present.any() or not width:
                raise
            return np.ones((self.num_envs, width), dtype=np.bool_)

    def render_slots(self) -> list[Any]:
        """Returns one frame an adapter, at the adapter's first slot."""
        frames: list[Any] = [None] * self.num_envs
        for adapter, where in zip(self.adapters, self._slices, strict=True):
            frames[where.start] = adapter.render()
        return frames

    def call_slots(self, name: str, *args: Any, indices: Sequence[int] | None = None, **kwargs: Any) -> list[Any]:
        """Calls a method of the adapters, or reads an attribute; every slot of an adapter gets the same answer."""
        answers: dict[int, Any] = {}
        owners = self._adapters_of(indices)
        for adapter in owners:
            if id(adapter) not in answers:
                attribute = getattr(adapter, name)
                answers[id(adapter)] = (
                    attribute(*args, **kwargs) if callable(attribute) or args or kwargs else attribute
                )
        return [answers[id(adapter)] for adapter in owners]

    def get_slots(self, name: str, indices: Sequence[int] | None = None) -> list[Any]:
        """Reads an attribute of the adapters, without calling it."""
        return [getattr(adapter, name) for adapter in self._adapters_of(indices)]

    def set_slots(self, name: str, value: Any, indices: Sequence[int] | None = None) -> None:
        """Sets an attribute of the adapters, which the slots of an adapter share."""
        for adapter in self._adapters_of(indices):
            setattr(adapter, name, value)

    def _adapters_of(self, indices: Sequence[int] | None) -> list[MultiSlotAdapter]:
        owners = [adapter for adapter in self.adapters for _ in range(adapter.n_slots)]
        return owners if indices is None else [owners[index] for index in indices]

    def close_extras(self, **kwargs: Any) -> None:
        """Closes the adapters that the door made over nothing of the caller's."""
        with ExitStack() as closing:  # one that cannot be closed keeps no other from it
            if self._threads is not None:
                closing.callback(self._threads.shutdown)
            for adapter, owned in zip(self.adapters, self._owned, strict=True):
                if owned:
                    closing.callback(adapter.close)


def _copy_rows(source: Any, target: Any, rows: NDArray[np.bool_]) -> None:
    if isinstance(source, dict):
        for key in source:
            _copy_rows(source[key], target[key], rows)
    elif isinstance(source, tuple):
        for one, other in zip(source, target, strict=True):
            _copy_rows(one, other, rows)
    else:
        target[rows] = np.asarray(source)[rows]
