"""From observations to features, in one class that reinforcement and imitation learning share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import gymnasium

from rl_framework import registry
from rl_framework.agent.network.arguments import note_arguments
from rl_framework.bundle import encode_value, read_bundle
from rl_framework.errors import ArgumentError, BundleError, UnsavableError

if TYPE_CHECKING:
    import torch

__all__ = ["FeaturesExtractor", "resolve_features_extractor"]

_POLICY = "policy.safetensors"


class FeaturesExtractor:
    """How observations become features. Subclass it, register the class, and give it to any agent.

    It has two stages, and a subclass overrides one of them or both: a preprocessing stage in NumPy, applied once at
    the door, so that buffers hold its result; and a torch module, which is trained with the policy, or frozen.

    Example:
        ```python
        class Scaled(FeaturesExtractor):
            def __init__(self, size=64, trainable=True, weights=None):
                super().__init__(trainable, weights)
                self.size = size

            def preprocess(self, observations):
                return observations / 10

            def build(self, observation_space):
                return nn.Sequential(nn.Linear(observation_space.shape[0], self.size), nn.ReLU())


        rl_framework.register_features_extractor("scaled", Scaled)
        agent = StableBaselinesAgent("ppo", features_extractor=Scaled(size=32))
        ```

    Args:
        trainable: Whether the module learns with the policy. A frozen one stays as it is built or loaded, and in
            evaluation mode (so that batch statistics and dropout rest too).
        weights: A saved agent whose features extractor has the same module: its weights are taken over. Read when
            the agent is built for the first time; a saved agent holds the weights itself and not this path.

    Attributes:
        arguments: What the constructor was given, by name.
    """

    arguments: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Notes the arguments, by which a bundle rebuilds the object."""
        self = super().__new__(cls)
        self.arguments = note_arguments(cls, self, args, kwargs, "features_extractor")
        return self

    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, Any]]:
        """Lets copies be made of an object whose constructor needs arguments."""
        return (), self.arguments

    def __init__(self, trainable: bool = True, weights: str | Path | None = None) -> None:
        self.trainable = trainable
        self.weights = weights

    def preprocess_space(self, observation_space: gymnasium.Space[Any]) -> gymnasium.Space[Any]:
        """Returns the space of what `preprocess` returns; the same space unless overridden."""
        return observation_space

    def preprocess(self, observations: Any) -> Any:
        """Changes a batch of observations (leading axis: slots) before anybody stores or learns from them."""
        return observations

    def build(self, observation_space: gymnasium.Space[Any]) -> torch.nn.Module:
        """Returns the module.

        Args:
            observation_space: Space of the preprocessed observations, as the module gets them.

        Returns:
            A module that maps a float batch `(batch, *shape)`, or a dictionary of such batches, to features
            `(batch, n_features)`. Images come with the channels first and values from 0 to 1, discrete observations
            one-hot. Its initial weights are kept as they are.
        """
        from stable_baselines3.common.preprocessing import is_image_space
        from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor, NatureCNN

        if isinstance(observation_space, gymnasium.spaces.Dict):
            return CombinedExtractor(observation_space)
        if is_image_space(observation_space):
            return NatureCNN(observation_space)
        return FlattenExtractor(observation_space)

    @property
    def preprocesses(self) -> bool:
        """Whether there is a preprocessing stage."""
        cls = type(self)
        return (
            cls.preprocess is not FeaturesExtractor.preprocess
            or cls.preprocess_space is not FeaturesExtractor.preprocess_space
        )

    def to_data(self) -> dict[str, Any]:
        """Returns name and arguments as JSON-able data, without the path of pre-trained weights.

        Raises:
            UnsavableError: The class or an argument has no registered name.
        """
        name = registry.features_extractors.name_of(type(self))
        if name is None:
            own = type(self).__name__
            raise UnsavableError(
                "features_extractor",
                self,
                "its class has no registered name, so that an agent with it could not be saved",
                f"Register it first: rl_framework.register_features_extractor({own.lower()!r}, {own})",
            )
        arguments = {key: value for key, value in self.arguments.items() if key != "weights"}
        return {"type": name, **encode_value(arguments, "features_extractor")}

    def load_weights(self, module: torch.nn.Module) -> None:
        """Takes the weights of a saved agent's features extractor over, if `weights` names one.

        Raises:
            BundleError: The file cannot be used, or holds no features extractor with the same module.
        """
        if self.weights is None:
            return
        expected = module.state_dict()
        if not expected:
            raise ArgumentError("weights", self.weights, "this features extractor has no weights to load")
        tensors = read_bundle(self.weights).tensors(_POLICY)
        first = next(iter(expected))
        for name in sorted(tensors):
            prefix = name.removesuffix(first)
            if "features_extractor" not in prefix or prefix == name:
                continue
            found = {key: tensors.get(prefix + key) for key in expected}
            if all(tensor is not None and tensor.shape == expected[key].shape for key, tensor in found.items()):
                module.load_state_dict(found)
                return
        raise BundleError(f"{self.weights} holds no features extractor with the same module as {type(self).__name__}")


def resolve_features_extractor(given: Any) -> Any:
    """Makes a `FeaturesExtractor` of its name, class, or data; returns anything else as it is.

    Args:
        given: A registered name, a class, `{"type": name, ...}`, an object, or None.

    Raises:
        UnknownNameError: No such name.
        ArgumentError: The arguments do not fit.
    """
    fields: dict[str, Any] = {}
    target = given
    if isinstance(given, dict):
        fields = dict(given)
        target = fields.pop("type", None)
    if isinstance(target, str):
        target = registry.features_extractors.get(target, "features_extractor")
    if isinstance(target, type) and issubclass(target, FeaturesExtractor):
        try:
            return target(**fields)
        except TypeError as error:
            raise ArgumentError("features_extractor", given, f"does not fit {target.__name__}: {error}") from error
    return given
