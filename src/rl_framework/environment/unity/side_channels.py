"""What is told to Unity beside actions: parameters of the scene, and settings of the engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rl_framework.errors import ArgumentError, UnknownNameError

__all__ = ["Channels"]

_ENGINE = ("width", "height", "quality_level", "target_frame_rate", "capture_frame_rate")
_SAMPLERS = {
    "uniform": ("minimum", "maximum"),
    "gaussian": ("mean", "standard_deviation"),
    "multirange": ("intervals",),
}


class Channels:
    """The side channels of one player: the user's own, and ours for what the user did not bring.

    Args:
        own: The user's channels.
        seed: From which the seeds of samplers follow.
    """

    def __init__(self, own: Sequence[Any], seed: int) -> None:
        from mlagents_envs.side_channel.engine_configuration_channel import EngineConfigurationChannel
        from mlagents_envs.side_channel.environment_parameters_channel import EnvironmentParametersChannel
        from mlagents_envs.side_channel.stats_side_channel import StatsSideChannel

        self._seed = seed
        self._parameters = _mine(own, EnvironmentParametersChannel)
        self._engine = _mine(own, EngineConfigurationChannel)
        self._statistics = _mine(own, StatsSideChannel)
        ours = (self._parameters, self._engine, self._statistics)
        self.all = [*own, *(channel for channel in ours if channel not in own)]

    def set_parameters(self, parameters: Mapping[str, Any]) -> None:
        """Sends parameters of the scene, which it reads at its next reset or whenever it wants.

        Args:
            parameters: By name: a number, or a sampler such as `{"type": "uniform", "minimum": 0.5, "maximum": 2}`,
                `{"type": "gaussian", "mean": 1, "standard_deviation": 0.1}` or `{"type": "multirange", "intervals":
                [[0, 1], [3, 4]]}`, from which Unity draws at every reset.

        Raises:
            ArgumentError: A value is neither.
        """
        for index, (name, value) in enumerate(parameters.items()):
            if isinstance(value, Mapping):
                self._send_sampler(name, dict(value), (self._seed + index) % 2**31)
            else:
                self._parameters.set_float_parameter(name, _number(name, value))

    def _send_sampler(self, name: str, sampler: dict[str, Any], seed: int) -> None:
        kind = sampler.pop("type", None)
        seed = sampler.pop("seed", seed)
        wanted = _SAMPLERS.get(kind)
        if wanted is None or set(sampler) != set(wanted):
            forms = "; ".join(f'"{each}" with {", ".join(names)}' for each, names in _SAMPLERS.items())
            raise ArgumentError(
                f"environment_parameters[{name!r}]", {"type": kind, **sampler}, f"a sampler has a type: {forms}"
            )
        if kind == "multirange":
            intervals = [(_number(name, low), _number(name, high)) for low, high in sampler["intervals"]]
            self._parameters.set_multirangeuniform_sampler_parameters(name, intervals, seed)
            return
        numbers = [_number(name, sampler[part]) for part in wanted]
        if kind == "uniform":
            self._parameters.set_uniform_sampler_parameters(name, *numbers, seed)
        else:
            self._parameters.set_gaussian_sampler_parameters(name, *numbers, seed)

    def set_engine(self, time_scale: float | None, engine: Mapping[str, Any]) -> None:
        """Sends settings of the engine.

        Raises:
            UnknownNameError: There is no such setting.
            ArgumentError: A width without a height, or the other way round.
        """
        for name in engine:
            if name not in _ENGINE:
                raise UnknownNameError("engine", name, _ENGINE)
        if ("width" in engine) != ("height" in engine):
            raise ArgumentError("engine", dict(engine), "width and height are set together")
        self._engine.set_configuration_parameters(time_scale=time_scale, **engine)

    def take_statistics(self) -> dict[str, float]:
        """Returns what the scene told its `StatsRecorder` since the last call: the mean by name."""
        if not self._statistics.stats:
            return {}
        told = self._statistics.get_and_reset_stats()
        return {name: sum(value for value, _ in values) / len(values) for name, values in told.items()}


def _mine(own: Sequence[Any], channel_class: type[Any]) -> Any:
    """Returns the user's channel of a class, because Unity takes only one, or a new one."""
    return next((channel for channel in own if isinstance(channel, channel_class)), None) or channel_class()


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"environment_parameters[{name!r}]", value, "must be a number, or a sampler: a mapping with a type"
        ) from error
