"""Unity scenes behind the door."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self, cast

from rl_framework.environment.adapter import MultiSlotAdapter
from rl_framework.environment.batched.batch import SlotStep
from rl_framework.environment.unity.options import make_options
from rl_framework.environment.world.groups import Group
from rl_framework.errors import ArgumentError, EnvironmentSourceError, RLFrameworkError

__all__ = ["UnityEnvironmentAdapter"]


class UnityEnvironmentAdapter(MultiSlotAdapter):
    """A scene made with Unity's ML-Agents, with a slot for each of its agents.

    Wherever an environment is asked for, these are accepted: the path of an executable as a `pathlib.Path`; the name
    "unity" with `environment_kwargs={"file_name": ...}`; an object of this class; an open `UnityEnvironment` (or any
    other `BaseEnv`) of `mlagents_envs`. A path and the name start a player each time and end it afterwards, several at
    once with `n_environments`. An object of this class keeps its player until you close it, which is what the Editor
    needs, whose Play button would have to be pressed again:

        with UnityEnvironmentAdapter(file_name=None) as unity:  # None: the Unity Editor
            agent.train(unity, total_timesteps=100_000)
            agent.evaluate(unity, n_eval_episodes=20)

    Agents may come and go, act at different times, and end and begin episodes in one message: nothing of an agent that
    is not there becomes a transition, and nothing of one that is there is lost. A transition reaches from one question
    that Unity asks for an agent to its next one, or to the end of its episode, whatever lies between; its reward is the
    sum of what Unity paid meanwhile. Episodes that reached their maximum step (`MaxStep`, `EpisodeInterrupted`) are
    truncated, others are terminated.

    When a player dies or hangs, open episodes are truncated where they were last seen (with a reward of 0 for the
    action whose outcome nobody knows, and `info["player_died"]`), a new player is started, and training goes on;
    `restarts` counts. A Unity player takes its seed when it starts, so that the seeds of resets do not reach it, and
    its open episodes cannot be replayed: a resumed training begins new ones.

    Images are what the agents' cameras see. Videos show the first camera sensor of the first agent.

    It was tested with the real `mlagents_envs` against a small player of our own over gRPC; no Unity build was run.

    All arguments can be given as `environment_kwargs`, too.

    Args:
        file_name: Path of the executable; None: the Editor.
        behavior_name: Which behaviour to train, with or without its "?team=0"; None: the only one there is. Agents of
            other behaviours do nothing (ML-Agents' empty action).
        max_agents: How many slots, that is, how many agents of the behaviour there can be at once; a mapping by the
            name of the behaviour; None: as many as ask first after the start. More agents than slots are an error.
        time_scale: How much faster than real time physics runs; None: as in the scene.
        no_graphics: Whether to draw nothing. Cameras then see nothing, either.
        environment_parameters: For Unity's `EnvironmentParameters`, by name: a number, or a sampler such as `{"type":
            "uniform", "minimum": 0.5, "maximum": 2}` (also "gaussian" with mean and standard_deviation, and
            "multirange" with intervals). `set_environment_parameters` sends others later, for a curriculum.
        engine: Settings of the engine: width and height, quality_level, target_frame_rate, capture_frame_rate.
        hybrid_actions: What becomes of behaviours with continuous and discrete actions, which no algorithm of
            Stable-Baselines3 takes as they are. "dict": a `Dict` of both ("continuous", "discrete"). "scores": one
            `Box`, with a score from -1 to 1 for every choice of every branch, of which the highest allowed is chosen.
            "bins": one `MultiDiscrete`, with `n_bins` equally spaced values for every continuous action.
        n_bins: For "bins".
        visual_observations: "uint8" (0 to 255), or "float" as they come, which sensors that are no images need.
        group_rewards: "add" to the reward of each agent of the group, or only in the "info" ("group_reward").
        seed: Of the player; None: drawn from NumPy's generator, and so from the seed of the training.
        base_port: First port to try; None: a free one (the Editor: 5004).
        worker_id: Number of the player, whose port is `base_port + worker_id`; None: found.
        host: Where to listen for the player: only on this machine unless you say so ("0.0.0.0" for a player in a
            container). Nobody who can reach the port is asked for a password.
        timeout: Seconds to wait for a message, from the start of the player to the end of the training.
        max_restarts: How often in a row a player may die soon after its start.
        num_areas: How many copies of the training area ML-Agents' `TrainingAreaReplicator` makes.
        side_channels: Your own side channels. What the scene tells its `StatsRecorder` becomes metrics.
        additional_arguments: For the command line of the player.
        log_folder: Where the player writes its log.

    Attributes:
        behavior_name: The behaviour that is trained.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 30, "replayable": False}
    render_mode = "rgb_array"
    waits = True
    episode_over: bool | None = None  # agents begin and end one by one

    def __init__(self, file_name: str | os.PathLike[str] | None = None, **options: Any) -> None:
        self._options = make_options({"file_name": file_name, **options})
        self._scene: Any = None
        self._given: Any = None
        self._is_shared = False

    @classmethod
    def accepts(cls, source: object) -> bool:
        """Accepts paths, objects of this class, and environments of `mlagents_envs`."""
        if source is cls or isinstance(source, cls | os.PathLike):
            return True
        # Nobody can hold one without having imported the module that defines it.
        library = sys.modules.get("mlagents_envs.base_env")
        return library is not None and isinstance(source, library.BaseEnv)

    def setup(self, source: Any, **environment_kwargs: Any) -> None:
        """Starts the player or waits for the Editor, and finds the behaviour.

        Raises:
            EnvironmentSourceError: It cannot be started or reached, or the behaviour to train has to be named.
            UnknownNameError: There is no option of that name.
            ArgumentError: An option has a value that cannot be used.
            MissingExtraError: The extra "unity" is not installed.
        """
        self._prepare(source, environment_kwargs)
        if self._options.behavior_name is not None:
            name = self._options.behavior_name
        else:
            names = self._scene.behavior_names
            if len(names) > 1:
                self._fail_to_choose(names)
            name = names[0]
        self._choose({name: name})
        group = self.groups[name]
        self.behavior_name = name
        self.n_slots = group.n_slots
        self.observation_space, self.action_space = group.observation_space, group.action_space

    def setup_groups(self, source: Any, names: Mapping[str, Sequence[str] | None], **environment_kwargs: Any) -> None:
        """Starts the player or waits for the Editor, to train several behaviours at once.

        Args:
            source: See `setup`; None: what the adapter was made for.
            names: The groups, each with a list of the one behaviour that is meant; None: the behaviour has the name of
                the group.
            environment_kwargs: See `setup`.

        Raises:
            EnvironmentSourceError: It cannot be started or reached, or has no such behaviour.
            ArgumentError: A group has several behaviours, or two groups have one.
        """
        for group, behaviors in names.items():
            if behaviors is not None and len(behaviors) != 1:
                raise ArgumentError("groups", dict(names), f"group {group!r} must be one behaviour of the scene")
        self._prepare(source, environment_kwargs)
        self._choose({group: behaviors[0] if behaviors else group for group, behaviors in names.items()})

    def _prepare(self, source: Any, environment_kwargs: dict[str, Any]) -> None:
        if source is None:
            source = self
        if isinstance(source, UnityEnvironmentAdapter):
            if environment_kwargs:
                raise ArgumentError(
                    "environment_kwargs", environment_kwargs, "the adapter is made already", "Give them to it."
                )
            if source is not self:  # another view of the same player, which stays its maker's
                self._options, self._scene, self._is_shared = source._options, source.open()._scene, True
                self.metadata = source.metadata  # type: ignore[misc]
        elif isinstance(source, str | type):
            self._options = make_options(environment_kwargs)
        elif isinstance(source, os.PathLike):
            self._options = make_options({**environment_kwargs, "file_name": os.fspath(source)})
        else:
            self._given, self._options = source, _options_of_given(environment_kwargs)
        self.open()

    def _choose(self, names: Mapping[str, str]) -> None:
        try:
            self._scene.choose(names)
        except RLFrameworkError:
            self.close()
            raise

    def _fail_to_choose(self, names: list[str]) -> None:
        self.close()
        listed = ", ".join(map(repr, names))
        raise EnvironmentSourceError(
            "behavior_name",
            None,
            f"the scene has {len(names)} behaviours ({listed}), and one agent learns one of them",
            f'Say which: environment_kwargs={{"behavior_name": {names[0]!r}}}; or train an agent each with MultiAgent.',
        )

    def open(self) -> Self:
        """Starts the player or waits for the Editor, unless that was done.

        Raises:
            EnvironmentSourceError: It cannot be started or reached.
            MissingExtraError: The extra "unity" is not installed.
        """
        if self._scene is None:
            from rl_framework.environment.unity.connection import UnityConnection
            from rl_framework.environment.unity.scene import UnityScene

            self._scene = UnityScene(UnityConnection(self._options, self._given), self._options)
            name = "Unity Editor" if self._options.file_name is None else Path(self._options.file_name).stem
            self.metadata = {**self.metadata, "name": name}  # type: ignore[misc]  # each has its own
        return self

    @property
    def behavior_names(self) -> list[str]:
        """All behaviours that the scene has shown so far."""
        return list(self.open()._scene.behavior_names)

    @property
    def groups(self) -> Mapping[str, Group]:
        """What is trained, by the name of the group: one behaviour after `setup`."""
        groups = self.open()._scene.groups
        return {name: Group(each.n_slots, each.observation_space, each.action_space) for name, each in groups.items()}

    @property
    def restarts(self) -> int:
        """How often the player was started again after it had died."""
        return 0 if self._scene is None else int(self._scene.connection.restarts)

    @property
    def sensor_names(self) -> dict[str, list[str]]:
        """By behaviour, what its sensors are called in Unity, in the order of "obs_0", "obs_1", ..."""
        specifications = self.unity.behavior_specs
        return {
            name: [str(getattr(sensor, "name", "")) for sensor in each.observation_specs]
            for name, each in specifications.items()
        }

    @property
    def unity(self) -> Any:
        """The `BaseEnv` of `mlagents_envs` behind it."""
        return self.open()._scene.connection.environment

    def set_environment_parameters(self, **parameters: Any) -> None:
        """Sends parameters of the scene: numbers or samplers, as `environment_parameters`.

        Raises:
            ArgumentError: A value is neither.
        """
        self.open()._scene.connection.set_parameters(parameters)

    def reset_groups(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> dict[str, Any]:
        """Starts the scene anew for all behaviours.

        Args:
            seed: Ignored; see the class.
            options: `{"environment_parameters": {...}}` sends parameters of the scene before.

        Returns:
            By name of the behaviour, what `reset` returns.
        """
        return cast(dict[str, Any], self.open()._scene.reset_groups(seed=seed, options=options))

    def step_groups(self, actions: Mapping[str, list[Any]]) -> dict[str, SlotStep]:
        """Lets everybody who asked act, in all behaviours.

        Args:
            actions: By name of the behaviour, what `step` takes.

        Returns:
            By name of the behaviour, what `step` returns.
        """
        if self._scene is None:
            raise RLFrameworkError("the Unity environment is closed")
        return cast(dict[str, SlotStep], self._scene.step_groups(actions))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Starts the scene anew; see `reset_groups`."""
        return self.reset_groups(seed=seed, options=options)[self.behavior_name]

    def step(self, action: Any) -> SlotStep:
        """Lets everybody who asked act, and waits until somebody asks again.

        Raises:
            RLFrameworkError: There are more agents than slots; the player dies again and again.
            NonFiniteError: The scene told a number that is not finite.
        """
        return self.step_groups({self.behavior_name: action})[self.behavior_name]

    def render(self) -> Any:
        """Returns what the first camera sensor of the first agent sees, shape `(height, width, 3)`, uint8.

        Raises:
            RLFrameworkError: The agents have none.
        """
        for group in self.open()._scene.groups.values():
            image = group.spaces.image(group.observations[int(group.present.argmax())])
            if image is not None:
                return image
        raise RLFrameworkError(
            "a Unity player draws in its own window, and sends no picture of it; a video shows what a camera sensor of "
            "an agent sees, and these agents have none. Add a CameraSensorComponent to the agent in Unity, or record "
            "the window (Unity Recorder)."
        )

    def close(self) -> None:
        """Ends the player; an environment of `mlagents_envs` that you gave stays open."""
        if self._scene is not None:
            scene, self._scene = self._scene, None
            if not self._is_shared:
                scene.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _options_of_given(environment_kwargs: Mapping[str, Any]) -> Any:
    """Returns the options that make sense for a player that somebody else has started.

    Raises:
        ArgumentError: One of them is for starting one.
    """
    translating = (
        "behavior_name",
        "max_agents",
        "hybrid_actions",
        "n_bins",
        "visual_observations",
        "group_rewards",
    )
    for name in environment_kwargs:
        if name not in translating:
            make_options({name: environment_kwargs[name]})
            raise ArgumentError(
                f"environment_kwargs[{name!r}]",
                environment_kwargs[name],
                "this Unity environment was given as an object, and is running already",
                "Give the path of the executable instead, or leave it out.",
            )
    return replace(make_options(environment_kwargs), file_name="a Unity environment")
