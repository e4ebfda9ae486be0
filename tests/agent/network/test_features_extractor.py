from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecFrameStack, VecNormalize
from torch import nn

from rl_framework import FeaturesExtractor, StableBaselinesAgent, load_agent, registry
from rl_framework.bundle import write_bundle
from rl_framework.environment import open_environments
from rl_framework.environment.preprocessed import PreprocessedEnvironments
from rl_framework.errors import ArgumentError, BundleError, UnknownNameError, UnsavableError

PPO = {"n_steps": 32, "batch_size": 32, "n_epochs": 2}
SAC = {"learning_starts": 16, "buffer_size": 500, "policy_kwargs": {"net_arch": [16]}}


FAMILIES = [("ppo", PPO, "CartPole-v1"), ("sac", SAC, "Pendulum-v1")]


class Tenfold(FeaturesExtractor):
    """Appends the sum and multiplies by ten, then one layer."""

    def __init__(self, size: int = 8, trainable: bool = True, weights: str | Path | None = None) -> None:
        super().__init__(trainable, weights)
        self.size = size

    def preprocess_space(self, observation_space: Any) -> Any:
        return spaces.Box(-np.inf, np.inf, (observation_space.shape[0] + 1,), np.float32)

    def preprocess(self, observations: Any) -> Any:
        return np.concatenate([observations * 10, observations.sum(axis=1, keepdims=True)], axis=1).astype(np.float32)

    def build(self, observation_space: Any) -> nn.Module:
        return nn.Sequential(nn.Linear(observation_space.shape[0], self.size), nn.Dropout(0.5), nn.ReLU())


class ModuleOnly(FeaturesExtractor):
    def build(self, observation_space: Any) -> nn.Module:
        return nn.Sequential(nn.Linear(observation_space.shape[0], 8), nn.Tanh())


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry.features_extractors, "_entries", dict(registry.features_extractors._entries))
    registry.register_features_extractor("tenfold", Tenfold)
    registry.register_features_extractor("module_only", ModuleOnly)


def _modules(agent: StableBaselinesAgent) -> list[Any]:
    return [module for module in agent.algorithm.policy.modules() if type(module).__name__ == "LibraryExtractor"]


def _weights(agent: StableBaselinesAgent) -> list[torch.Tensor]:
    return [module.module[0].weight.detach().clone() for module in _modules(agent)]


def _ppo(extractor: Any, steps: int = 64, **kwargs: Any) -> StableBaselinesAgent:
    agent = StableBaselinesAgent("ppo", PPO, features_extractor=extractor, **kwargs)
    agent.train("CartPole-v1", steps, n_environments=2, seed=0, progress_bar=False)
    return agent


@pytest.mark.parametrize(
    "given",
    [Tenfold(size=5), {"type": "tenfold", "size": 5}, {"type": Tenfold, "size": 5}],
    ids=["object", "name", "class"],
)
def test_every_way_to_give_one(given: Any) -> None:
    agent = _ppo(given)
    assert [tuple(weight.shape) for weight in _weights(agent)] == [(5, 5)]
    assert agent.observation_space.shape == (4,)  # what the environment gives, and what choose_action takes


def test_a_name_alone_uses_the_defaults() -> None:
    assert [tuple(weight.shape) for weight in _weights(_ppo("tenfold"))] == [(8, 5)]


def test_preprocessing_happens_once_before_the_buffer() -> None:
    """The replay buffer holds preprocessed observations, also the last ones of episodes."""
    agent = StableBaselinesAgent("dqn", {"learning_starts": 1_000, "buffer_size": 400}, features_extractor=Tenfold())
    agent.train("CartPole-v1", 200, seed=0, progress_bar=False)
    buffer = agent.algorithm.replay_buffer
    for stored in (buffer.observations[:200, 0], buffer.next_observations[:200, 0]):
        assert np.allclose(stored[:, 4], stored[:, :4].sum(axis=1) / 10, atol=1e-4)
        assert np.abs(stored[:, 2]).max() > 0.2095  # ten times an angle, beyond where an episode ends
    assert buffer.dones[:200].sum() > 3


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize(
    ("algorithm", "parameters", "environment"), [("ppo", PPO, "CartPole-v1"), ("sac", SAC, "Pendulum-v1")]
)
def test_a_saved_agent_acts_alike_and_goes_on(
    algorithm: str, parameters: dict[str, Any], environment: str, normalize: bool
) -> None:
    agent = StableBaselinesAgent(algorithm, parameters, Tenfold(), normalize_observations=normalize)
    agent.train(environment, 64, n_environments=2, seed=0, progress_bar=False)
    agent.save_to_file("agent.zip")
    loaded = load_agent("agent.zip")
    assert loaded.evaluate(environment, 3, seed=1) == agent.evaluate(environment, 3, seed=1)
    loaded.train(environment, 64, n_environments=2, progress_bar=False)  # type: ignore[attr-defined]
    assert loaded.num_timesteps == 128  # type: ignore[attr-defined]


def test_it_learns_with_the_policy_unless_frozen() -> None:
    short, long = _ppo(Tenfold(), 64), _ppo(Tenfold(), 256)
    assert not torch.equal(_weights(short)[0], _weights(long)[0])
    short, long = _ppo(Tenfold(trainable=False), 64), _ppo(Tenfold(trainable=False), 256)
    assert torch.equal(_weights(short)[0], _weights(long)[0])
    long.algorithm.policy.set_training_mode(True)
    assert not any(part.training for part in _modules(long)[0].module.modules())  # dropout rests too


def test_initial_weights_are_kept_as_built() -> None:
    """PPO's policy initialises its networks anew; a module that comes with weights must not lose them."""

    class Constant(FeaturesExtractor):
        def build(self, observation_space: Any) -> nn.Module:
            layer = nn.Linear(observation_space.shape[0], 3)
            nn.init.constant_(layer.weight, 0.25)
            return nn.Sequential(layer)

    registry.register_features_extractor("constant", Constant)
    agent = StableBaselinesAgent("ppo", {**PPO, "learning_rate": 0.0}, Constant())
    agent.train("CartPole-v1", 64, n_environments=2, seed=0, progress_bar=False)
    assert (_weights(agent)[0] == 0.25).all()


@pytest.mark.parametrize(
    ("algorithm", "parameters", "environment"), [("ppo", PPO, "CartPole-v1"), ("sac", SAC, "Pendulum-v1")]
)
def test_weights_of_another_agent_are_taken_over(algorithm: str, parameters: dict[str, Any], environment: str) -> None:
    teacher = StableBaselinesAgent(algorithm, parameters, Tenfold())
    teacher.train(environment, 64, n_environments=2, seed=0, progress_bar=False)
    teacher.save_to_file("teacher.zip")
    student = StableBaselinesAgent(algorithm, parameters, Tenfold(trainable=False, weights="teacher.zip"))
    student.train(environment, 64, n_environments=2, seed=1, progress_bar=False)
    taught = _weights(teacher)
    # The target network is a moving average of the critic, equal but for rounding.
    assert all(any(torch.allclose(weight, other) for other in taught) for weight in _weights(student))
    student.save_to_file("student.zip")
    Path("teacher.zip").unlink()  # a saved agent holds the weights itself
    assert load_agent("student.zip").evaluate(environment, 2, seed=3) == student.evaluate(environment, 2, seed=3)


def test_weights_that_do_not_fit_are_refused() -> None:
    _ppo(Tenfold(size=4)).save_to_file("other.zip")
    with pytest.raises(BundleError, match=r"other\.zip holds no features extractor with the same module as Tenfold"):
        _ppo(Tenfold(size=8, weights="other.zip"))


def test_a_crafted_bundle_cannot_name_a_path() -> None:
    agent = _ppo(Tenfold())
    members = agent.bundle_members()
    members["config.json"]["features_extractor"]["weights"] = "/etc/passwd"
    crafted = load_agent(write_bundle("crafted.zip", kind="stable_baselines", members=members))
    assert crafted.features_extractor.weights is None  # type: ignore[attr-defined]


def test_an_unregistered_one_is_refused_before_the_first_step() -> None:
    class Mine(FeaturesExtractor):
        pass

    with pytest.raises(UnsavableError, match=r"rl_framework.register_features_extractor\('mine', Mine\)"):
        _ppo(Mine())


def test_what_does_not_fit_is_an_error_with_a_remedy() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'tenfold'"):
        StableBaselinesAgent("ppo", features_extractor="tenfol")
    with pytest.raises(ArgumentError, match=r"does not fit Tenfold: .*unexpected keyword argument 'sise'"):
        StableBaselinesAgent("ppo", features_extractor={"type": "tenfold", "sise": 3})

    class Flat(FeaturesExtractor):
        def build(self, observation_space: Any) -> nn.Module:
            return nn.Unflatten(1, (2, 2))

    registry.register_features_extractor("flat", Flat)
    with pytest.raises(ArgumentError, match=r"gives shape \(2, 2, 2\) for a batch of 2.*nn.Flatten"):
        _ppo(Flat())
    with pytest.raises(ArgumentError, match="features_extractor_class'] is given too"):
        StableBaselinesAgent("ppo", {"policy_kwargs": {"features_extractor_class": "flatten"}}, Tenfold()).train(
            "CartPole-v1", 10, progress_bar=False
        )


def test_without_a_module_of_its_own_it_chooses_one_for_the_observations() -> None:
    class Halved(FeaturesExtractor):
        def preprocess(self, observations: Any) -> Any:
            return observations / 2

    registry.register_features_extractor("halved", Halved)
    agent = StableBaselinesAgent("ppo", PPO, Halved())
    agent.train("CartPole-v1", 64, n_environments=2, seed=0, progress_bar=False)
    assert type(_modules(agent)[0].module).__name__ == "FlattenExtractor"


def test_a_module_alone_leaves_the_environments_alone() -> None:
    assert not ModuleOnly().preprocesses
    vec_env = VecFrameStack(make_vec_env("CartPole-v1", 2), 2)
    agent = StableBaselinesAgent("ppo", PPO, ModuleOnly())
    agent.train(vec_env, 64, seed=0, progress_bar=False)
    assert agent.algorithm.env is vec_env


def test_preprocessing_reaches_a_vec_env_that_the_user_brought() -> None:
    agent = StableBaselinesAgent("ppo", PPO, Tenfold())
    agent.train(make_vec_env("CartPole-v1", 2), 64, seed=0, progress_bar=False)
    assert agent.evaluate("CartPole-v1", 2, seed=0).n_episodes == 2
    with pytest.raises(ArgumentError, match="VecNormalize in it would come before"):
        StableBaselinesAgent("ppo", PPO, Tenfold()).train(VecNormalize(make_vec_env("CartPole-v1", 2)), 64)


def test_the_stage_at_the_door_keeps_everything_else() -> None:
    plain, changed = open_environments("CartPole-v1", 3), open_environments("CartPole-v1", 3)
    stage = PreprocessedEnvironments(changed, Tenfold())
    observations, _ = plain.reset_slots(5)
    preprocessed, _ = stage.reset_slots(5)
    assert stage.single_observation_space.shape == (5,)
    episodes = 0
    for _ in range(60):
        assert np.array_equal(preprocessed, Tenfold().preprocess(observations))
        expected, step = plain.step_slots(np.ones(3, np.int64)), stage.step_slots(np.ones(3, np.int64))
        observations, preprocessed = expected.observations, step.observations
        assert np.array_equal(step.rewards, expected.rewards)
        assert np.array_equal(step.terminated, expected.terminated)
        for index, final in expected.final_observations.items():
            episodes += 1
            assert np.array_equal(step.final_observations[index], Tenfold().preprocess(final[None])[0])
            assert step.infos[index]["episode"]["r"] == expected.infos[index]["episode"]["r"]
    assert episodes > 5


def test_dictionaries_and_images_reach_the_module() -> None:
    class Camera(gymnasium.Env[Any, Any]):
        observation_space = spaces.Dict(
            {"image": spaces.Box(0, 255, (36, 36, 3), np.uint8), "speed": spaces.Box(-1, 1, (2,), np.float32)}
        )
        action_space = spaces.Discrete(2)

        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            super().reset(seed=seed)
            return {"image": np.full((36, 36, 3), 255, np.uint8), "speed": np.zeros(2, np.float32)}, {}

        def step(self, action: Any) -> Any:
            return self.reset()[0], 1.0, False, bool(self.np_random.random() < 0.2), {}

    seen = {}

    class Looks(FeaturesExtractor):
        def build(self, observation_space: Any) -> nn.Module:
            class Module(nn.Module):
                def forward(self, observations: Any) -> torch.Tensor:
                    seen.update({key: (tuple(v.shape[1:]), float(v.max())) for key, v in observations.items()})
                    return torch.cat([observations["image"].flatten(1)[:, :4], observations["speed"]], dim=1)

            return Module()

    registry.register_features_extractor("looks", Looks)
    agent = StableBaselinesAgent("ppo", PPO, Looks())
    agent.train(Camera, 64, n_environments=2, seed=0, progress_bar=False)
    assert seen["image"] == ((3, 36, 36), 1.0)  # channels first, from 0 to 1
    assert agent.choose_action(Camera().reset()[0]) in (0, 1)


def test_arguments_are_known_however_they_are_given() -> None:
    class Further(FeaturesExtractor):
        def __init__(self, size: int, depth: int = 1, **further: Any) -> None:
            super().__init__()

    assert Further(3, depth=2, width=4).arguments == {"size": 3, "depth": 2, "width": 4}
    assert ModuleOnly(False).arguments == {"trainable": False}
    assert ModuleOnly().arguments == {}

    class Nameless(FeaturesExtractor):
        def __init__(self, *sizes: int) -> None:
            super().__init__()

    with pytest.raises(ArgumentError, match="sizes cannot be given by name"):
        Nameless(3, 4)


def test_it_can_be_copied() -> None:
    class Needs(FeaturesExtractor):
        def __init__(self, size: int) -> None:
            super().__init__(trainable=False)
            self.size = size

    copied = copy.deepcopy(Needs(5))
    assert (copied.size, copied.trainable, copied.arguments) == (5, False, {"size": 5})


def test_without_an_init_of_its_own_it_is_saved_too() -> None:
    agent = _ppo(ModuleOnly(trainable=False))
    agent.save_to_file("agent.zip")
    assert load_agent("agent.zip").evaluate("CartPole-v1", 2, seed=0) == agent.evaluate("CartPole-v1", 2, seed=0)
