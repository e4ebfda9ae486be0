"""Exported agents act as the agent does, from raw observations, without this package."""

import inspect
import json
import logging
import sys
import warnings

import numpy as np
import pytest
import sb3_contrib
import stable_baselines3
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from tests.agent.samples import SMALL, Sampled, make, train, trained, weights

import rl_framework
from rl_framework import StableBaselinesAgent, registry
from rl_framework.agent.network import FeaturesExtractor
from rl_framework.agent.reinforcement.export.acting_module import acting_module
from rl_framework.agent.reinforcement.export.programs import export_program, save_as_onnx, save_as_torch_export
from rl_framework.agent.reinforcement.library.normaliser import Normaliser
from rl_framework.bundle import decode_space
from rl_framework.environment.sb3 import SpacesOnlyVecEnv
from rl_framework.errors import ArgumentError, MissingExtraError, NotTrainedError

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

UNBOUNDED = spaces.Box(-np.inf, np.inf, (3,))
LARGE = spaces.Box(-1000, 1000, (2, 2), np.float64)
BOUNDED_LARGE = spaces.Box(-100, 100, (4,))
WHOLE = spaces.Box(-9, 9, (3,), np.int32)
IMAGE = spaces.Box(0, 255, (36, 40, 3), np.uint8)
# Names as the file's own inputs, outputs and inner values have them.
DICT = spaces.Dict(
    {
        "action": spaces.Box(-1, 1, (2, 2)),
        "bits": spaces.MultiBinary(3),
        "image": IMAGE,
        "linear": spaces.Discrete(3),
        "state_h": LARGE,
    }
)
SMALL_DICT = spaces.Dict({key: space for key, space in DICT.spaces.items() if key != "image"})
BOUNDED = spaces.Box(np.array([-2.0, 0.0], np.float32), np.array([1.0, 5.0], np.float32))
DISCRETE, MULTI_DISCRETE, MULTI_BINARY = spaces.Discrete(4), spaces.MultiDiscrete([3, 4]), spaces.MultiBinary(4)
CNN = {"features_extractor_kwargs": {"features_dim": 16}, **SMALL}

# name: algorithm, observation space, action space, parameters
CASES = {
    "ppo discrete": ("PPO", UNBOUNDED, DISCRETE, {}),
    "ppo multi-discrete": ("PPO", MULTI_DISCRETE, MULTI_DISCRETE, {}),
    "sac squashed": ("SAC", WHOLE, BOUNDED, {}),
    "dqn image": ("DQN", IMAGE, DISCRETE, {"policy_kwargs": CNN}),
    "a2c dict": ("A2C", SMALL_DICT, BOUNDED, {}),
}
SLOW_CASES = {
    "ppo clipped": ("PPO", LARGE, BOUNDED, {}),
    "ppo multi-binary": ("PPO", spaces.Discrete(5), MULTI_BINARY, {}),
    "ppo bits": ("PPO", spaces.MultiBinary(6), DISCRETE, {}),
    "ppo squashed": ("PPO", UNBOUNDED, BOUNDED, {"use_sde": True, "policy_kwargs": {**SMALL, "squash_output": True}}),
    "ppo gSDE": ("PPO", UNBOUNDED, BOUNDED, {"use_sde": True}),
    "ppo double actions": ("PPO", UNBOUNDED, spaces.Box(-3, 1, (2, 2), np.float64), {}),
    "ppo dict with image": ("PPO", DICT, MULTI_DISCRETE, {}),
    "ppo image first": ("PPO", spaces.Box(0, 255, (3, 36, 40), np.uint8), BOUNDED, {"policy_kwargs": CNN}),
    "ppo separate extractors": (
        "PPO",
        IMAGE,
        DISCRETE,
        {"policy_kwargs": {**CNN, "share_features_extractor": False}},
    ),
    "a2c": ("A2C", UNBOUNDED, BOUNDED, {}),
    "dqn": ("DQN", UNBOUNDED, DISCRETE, {}),
    "sac gSDE": ("SAC", UNBOUNDED, BOUNDED, {"use_sde": True}),
    "sac image": ("SAC", IMAGE, BOUNDED, {"policy_kwargs": CNN}),
    "sac double actions": ("SAC", UNBOUNDED, spaces.Box(-3, 1, (2, 2), np.float64), {}),
    "td3": ("TD3", SMALL_DICT, BOUNDED, {}),
    "ddpg": ("DDPG", UNBOUNDED, BOUNDED, {}),
    "ars linear": ("ARS", UNBOUNDED, BOUNDED, {"policy": "LinearPolicy", "policy_kwargs": {}}),
    "ars": ("ARS", UNBOUNDED, BOUNDED, {}),
    "ars discrete": ("ARS", UNBOUNDED, DISCRETE, {}),
    "crossq": ("CrossQ", UNBOUNDED, BOUNDED, {}),
    "maskable": ("MaskablePPO", UNBOUNDED, DISCRETE, {}),
    "maskable dict": ("MaskablePPO", SMALL_DICT, MULTI_DISCRETE, {}),
    "maskable multi-binary": ("MaskablePPO", UNBOUNDED, MULTI_BINARY, {}),
    "qrdqn": ("QRDQN", UNBOUNDED, DISCRETE, {}),
    "tqc": ("TQC", UNBOUNDED, BOUNDED, {}),
    "trpo": ("TRPO", UNBOUNDED, BOUNDED, {}),
}


class Branching(ActorCriticPolicy):
    def _predict(self, observation, deterministic=False):
        if observation.sum() > 0:
            return super()._predict(observation, deterministic)
        return super()._predict(-observation, deterministic)


class Twice(stable_baselines3.PPO):
    """Does something to its actions that no policy knows of."""

    def predict(self, *arguments, **named):
        actions, state = super().predict(*arguments, **named)
        return 2 * actions, state


class Preprocessing(FeaturesExtractor):
    """Drops a column, and needs an argument to be made."""

    def __init__(self, divisor, **arguments):
        super().__init__(**arguments)
        self.divisor = divisor

    def preprocess_space(self, observation_space):
        return spaces.Box(-1, 1, (observation_space.shape[0] - 1,))

    def preprocess(self, observations):
        return observations[:, 1:] / self.divisor

    def build(self, observation_space):
        return torch.nn.Sequential(torch.nn.Linear(observation_space.shape[0], 5), torch.nn.ReLU())


class OnlyArrays(Preprocessing):
    def preprocess(self, observations):
        return np.asarray(observations, np.float32)[:, 1:] / self.divisor


class NeedsArrays(Preprocessing):
    def preprocess(self, observations):
        return observations[:, 1:].astype(np.float32) / self.divisor


registry.register_features_extractor("test_export_preprocessing", Preprocessing)
registry.register_features_extractor("test_export_only_arrays", OnlyArrays)
registry.register_features_extractor("test_export_needs_arrays", NeedsArrays)


def algorithm_named(name):
    return getattr(stable_baselines3, name, None) or getattr(sb3_contrib, name)


def built(algorithm, observation_space, action_space, parameters=None):
    """An agent with random weights and statistics, that has never met an environment."""
    torch.manual_seed(0)
    algorithm = algorithm_named(algorithm) if isinstance(algorithm, str) else algorithm
    agent = StableBaselinesAgent(algorithm, {"policy_kwargs": SMALL, "device": "cpu", **(parameters or {})})
    parts = observation_space.spaces if isinstance(observation_space, spaces.Dict) else {"": observation_space}
    agent.normalize_observations = any(
        isinstance(part, spaces.Box) and part.dtype != np.uint8 for part in parts.values()
    )
    vec_env, normalize = agent._normalise(SpacesOnlyVecEnv(observation_space, action_space, 2))
    overrides = {"buffer_size": 2} if "buffer_size" in inspect.signature(algorithm).parameters else {}
    agent._algorithm = agent._construct(vec_env, observation_space, action_space, 0, overrides)
    agent._spaces = (observation_space, action_space)
    with torch.no_grad():
        for name, tensor in agent.algorithm.policy.state_dict().items():
            if tensor.is_floating_point() and not name.endswith("ra_var"):
                spread = (1.4 / tensor[0].numel()) ** 0.5 if tensor.ndim > 1 else 0.1
                tensor.add_(torch.randn_like(tensor) * spread)
    if normalize is not None:
        random = np.random.default_rng(0)
        agent._normaliser = Normaliser.from_vec_normalize(normalize)
        for mean, variance, _ in agent._normaliser.observation.values():
            mean += random.normal(size=mean.shape)
            variance *= random.uniform(0.1, 30, size=variance.shape)
    return agent


def sampled(space, count, seed=0):
    space.seed(seed)
    if isinstance(space, spaces.Dict):
        return {key: sampled(part, count, seed + 1 + index) for index, (key, part) in enumerate(space.spaces.items())}
    values = np.stack([space.sample() for _ in range(count)])
    if space == IMAGE:  # images of nothing but noise look alike
        colours = np.random.default_rng(seed).random((count, 1, 1, 3)) ** 2
        values = (values * colours).astype(np.uint8)
    return values


def rows(observations, start, stop):
    if isinstance(observations, dict):
        return {key: value[start:stop] for key, value in observations.items()}
    return observations[start:stop]


def fed(session, observations):
    """Observations by the names of the inputs, as somebody would do who only has the file."""
    if not isinstance(observations, dict):
        return {"observation": observations}
    names = {node.name for node in session.get_inputs()}
    return {
        f"observation.{key}" if f"observation.{key}" in names else key: value for key, value in observations.items()
    }


def opened(path):
    return onnxruntime.InferenceSession(str(path))


def assert_acts_alike(agent, path, count=1000):
    session = opened(path)
    observations = sampled(agent.observation_space, count)
    expected, _ = agent.predict(observations, deterministic=True)
    for size in (1, 7, count):
        actions = session.run(["action"], fed(session, rows(observations, 0, size)))[0]
        wanted, _ = agent.predict(rows(observations, 0, size), deterministic=True)
        assert actions.dtype == wanted.dtype
        assert actions.shape == wanted.shape == (size, *agent.action_space.shape)
        if wanted.dtype.kind == "f":
            np.testing.assert_allclose(actions, wanted, rtol=0, atol=1e-5)
        else:
            np.testing.assert_array_equal(actions, wanted)
    assert len(np.unique(expected, axis=0)) > 1, "an agent that always does the same shows nothing"


@pytest.mark.parametrize("case", CASES)
def test_onnxruntime_acts_as_the_agent(case, tmp_path):
    agent = built(*CASES[case])
    assert_acts_alike(agent, save_as_onnx(agent, tmp_path / "agent.onnx"))


@pytest.mark.slow
@pytest.mark.parametrize("case", SLOW_CASES)
def test_onnxruntime_acts_as_every_agent(case, tmp_path):
    agent = built(*SLOW_CASES[case])
    assert_acts_alike(agent, save_as_onnx(agent, tmp_path / "agent.onnx"))


@pytest.mark.slow
@pytest.mark.parametrize("case", [*CASES, *SLOW_CASES])
def test_torch_acts_as_every_agent(case, tmp_path):
    agent = built(*(CASES | SLOW_CASES)[case])
    program = torch.export.load(save_as_torch_export(agent, tmp_path / "agent.pt2")).module()
    assert_program_acts_alike(agent, program)


def assert_program_acts_alike(agent, program):
    for size in (1, 7, 1000):
        observations = sampled(agent.observation_space, size)
        tensors = torch.utils._pytree.tree_map(torch.from_numpy, observations)
        masks = ()
        if type(agent.algorithm).__name__ == "MaskablePPO":
            masks = (torch.ones(size, acting_module_of(agent).mask_size, dtype=torch.bool),)
        actions = program(tensors, *masks).numpy()
        wanted, _ = agent.predict(observations, deterministic=True)
        np.testing.assert_allclose(actions, wanted, rtol=0, atol=1e-5)


def acting_module_of(agent):
    return acting_module(agent.algorithm, agent.observation_space, agent.action_space, agent.normaliser)


def test_torch_export_acts_as_a_trained_agent(tmp_path):
    agent = trained("ppo", normalize_observations=True)
    path = save_as_torch_export(agent, tmp_path / "deeper" / "agent.pt2")
    assert_program_acts_alike(agent, torch.export.load(path).module())
    assert_program_acts_alike(agent, export_program(agent).module())
    assert [file.name for file in path.parent.iterdir()] == ["agent.pt2"]


@pytest.mark.parametrize(
    "observation_space", [UNBOUNDED, pytest.param(SMALL_DICT, marks=pytest.mark.slow)], ids=["box", "dict"]
)
def test_recurrent_agent_keeps_its_memory(observation_space, tmp_path):
    parameters = {"policy_kwargs": {**SMALL, "lstm_hidden_size": 12, "n_lstm_layers": 2}}
    agent = built("RecurrentPPO", observation_space, BOUNDED, parameters)
    session = opened(save_as_onnx(agent, tmp_path / "agent.onnx"))
    batch, steps = 50, 20
    observations = sampled(observation_space, batch * steps)
    state, memory = None, [np.zeros((2, batch, 12), np.float32)] * 2
    ends = np.random.default_rng(0).random((steps, batch)) < 0.2
    ends[0] = True
    for step in range(steps):
        seen = rows(observations, step * batch, (step + 1) * batch)
        wanted, state = agent.predict(seen, state, ends[step], deterministic=True)
        inputs = {**fed(session, seen), "state_h": memory[0], "state_c": memory[1], "episode_starts": ends[step]}
        action, *memory = session.run(["action", "next_state_h", "next_state_c"], inputs)
        np.testing.assert_allclose(action, wanted, rtol=0, atol=1e-5)
        np.testing.assert_allclose(memory, state, rtol=0, atol=1e-5)
    forgotten = session.run(["action"], {**inputs, "episode_starts": np.ones(batch, np.bool_)})[0]
    assert not np.allclose(forgotten, action, atol=1e-3), "the memory makes no difference"
    alone = {
        name: array[:, :1] if name.startswith("state_") and array.ndim == 3 else array[:1]
        for name, array in inputs.items()
    }
    np.testing.assert_allclose(session.run(["action"], alone)[0], action[:1], rtol=0, atol=1e-5)


def test_masks_of_invalid_actions_may_be_given(tmp_path):
    agent = built("MaskablePPO", UNBOUNDED, MULTI_DISCRETE)
    session = opened(save_as_onnx(agent, tmp_path / "agent.onnx"))
    observations = sampled(UNBOUNDED, 1000)
    masks = np.random.default_rng(0).random((1000, 7)) < 0.5
    masks[:, [0, 3]] = True
    for given in (masks, masks[:1]):
        actions = session.run(["action"], {"observation": observations, "action_masks": given})[0]
        everybody = np.broadcast_to(given, masks.shape).copy()
        wanted, _ = agent.algorithm.predict(
            agent.normaliser.normalise(observations), deterministic=True, action_masks=everybody
        )
        np.testing.assert_array_equal(actions, wanted)
    free, _ = agent.predict(observations, deterministic=True)
    np.testing.assert_array_equal(session.run(["action"], {"observation": observations})[0], free)
    assert (free != wanted).any()


def test_preprocessing_stage_is_in_the_file(tmp_path):
    agent = make(features_extractor=Preprocessing(3.0), normalize_observations=True)
    train(agent, Sampled(BOUNDED_LARGE, BOUNDED))
    assert_acts_alike(agent, save_as_onnx(agent, tmp_path / "agent.onnx"))


@pytest.mark.parametrize("extractor", [OnlyArrays, NeedsArrays])
def test_preprocessing_stage_of_arrays_is_an_error(extractor, tmp_path):
    agent = train(make(features_extractor=extractor(3.0)), Sampled(BOUNDED_LARGE, BOUNDED))
    with pytest.raises(ArgumentError, match="preprocessing stage cannot work with tensors"):
        save_as_onnx(agent, tmp_path / "agent.onnx")


def test_file_says_what_it_is_and_nothing_about_this_machine(tmp_path):
    agent = built("SAC", SMALL_DICT, BOUNDED)
    path = save_as_onnx(agent, tmp_path / "agent.onnx", opset=21)
    model = onnx.load(path)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 21)]
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata["algorithm"] == "SAC"
    assert decode_space(json.loads(metadata["observation_space"])) == SMALL_DICT
    assert decode_space(json.loads(metadata["action_space"])) == BOUNDED
    assert metadata["version/torch"] == torch.__version__
    assert [node.name for node in model.graph.input] == ["observation.action", "bits", "linear", "state_h"]
    assert [node.name for node in model.graph.output] == ["action"]
    for node in (*model.graph.input, *model.graph.output):
        assert node.type.tensor_type.shape.dim[0].dim_param == "batch"
    for data in (path.read_bytes(), save_as_torch_export(agent, tmp_path / "agent.pt2").read_bytes()):
        assert b"site-packages" not in data
        assert str(tmp_path).encode() not in data
        assert rl_framework.__file__.encode() not in data


def test_critics_and_optimizers_stay_behind():
    agent = built("SAC", UNBOUNDED, BOUNDED)
    kept = acting_module_of(agent).state_dict()
    assert not [name for name in kept if "critic" in name]
    actor = sum(parameter.numel() for parameter in agent.algorithm.policy.actor.parameters())
    held = sum(tensor.numel() for name, tensor in kept.items() if name.startswith("policy."))
    assert held <= actor
    assert len(export_program(agent).state_dict) == len(kept)


def test_exporting_changes_nothing(tmp_path):
    """Neither the agent, nor random numbers, nor the settings of the libraries."""
    agent = train(make("ppo", {"use_sde": True}), Sampled(UNBOUNDED, BOUNDED))
    agent.algorithm.policy.train()
    before, state = weights(agent), torch.get_rng_state()
    space = agent.observation_space
    space.seed(3)
    expected = space.sample()
    space.seed(3)
    level, validated = logging.getLogger("torch.onnx").level, torch.distributions.Distribution._validate_args
    module = acting_module_of(agent)
    save_as_onnx(agent, tmp_path / "agent.onnx")
    assert all(np.array_equal(before[name], tensor) for name, tensor in weights(agent).items())
    assert agent.algorithm.policy.optimizer.param_groups
    assert torch.equal(state, torch.get_rng_state())
    np.testing.assert_array_equal(space.sample(), expected)
    assert logging.getLogger("torch.onnx").level == level
    assert torch.distributions.Distribution._validate_args == validated
    observations = torch.from_numpy(sampled(UNBOUNDED, 5))
    then = module(observations)
    train(agent, Sampled(UNBOUNDED, BOUNDED))
    assert torch.equal(module(observations), then), "the module shares weights with the agent"
    assert not torch.equal(acting_module_of(agent)(observations), then)


def test_large_means_lose_no_digits():
    """Seconds since 1970, say: single precision tells them apart by minutes."""
    agent = built("SAC", LARGE, BOUNDED)
    (mean, variance, _) = agent.normaliser.observation[""]
    mean += 1.7e9
    variance[:] = 1.0
    observations = mean + np.random.default_rng(0).normal(size=(1000, *LARGE.shape))
    actions = acting_module_of(agent)(torch.from_numpy(observations)).numpy()
    np.testing.assert_allclose(actions, agent.predict(observations)[0], rtol=0, atol=1e-5)


def test_nothing_is_printed(tmp_path, capfd, caplog):
    agent = built("RecurrentPPO", UNBOUNDED, DISCRETE, {"policy_kwargs": {**SMALL, "lstm_hidden_size": 4}})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_as_onnx(agent, tmp_path / "agent.onnx")
    assert capfd.readouterr() == ("", "")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_what_cannot_be_exported_is_an_error_that_names_the_policy(tmp_path):
    agent = built("PPO", UNBOUNDED, DISCRETE)
    agent.algorithm.policy.__class__ = Branching
    path = tmp_path / "agent.onnx"
    path.write_text("an older file")
    for save in (save_as_onnx, save_as_torch_export):
        with pytest.raises(ArgumentError, match=r"Branching cannot be written as torch\.export.*must not branch"):
            save(agent, path)
    assert path.read_text() == "an older file"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("save", [save_as_onnx, save_as_torch_export])
def test_a_file_that_acts_differently_is_not_kept(save, tmp_path):
    agent = built(Twice, UNBOUNDED, BOUNDED)
    with pytest.raises(ArgumentError, match="acts differently as"):
        save(agent, tmp_path / "agent.onnx")
    assert not list(tmp_path.iterdir())


def test_nothing_to_export_before_training(tmp_path):
    for save in (save_as_onnx, save_as_torch_export):
        with pytest.raises(NotTrainedError):
            save(make(), tmp_path / "agent.onnx")


def test_opset_cannot_be_older_than_torch_writes(tmp_path):
    with pytest.raises(ArgumentError, match="opset=17: torch writes 18 and newer"):
        save_as_onnx(trained("ppo"), tmp_path / "agent.onnx", opset=17)


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(ArgumentError, match="is a directory"):
        save_as_torch_export(trained("ppo"), tmp_path)


def test_missing_extra_names_its_command(tmp_path, monkeypatch):
    agent = trained("ppo")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    monkeypatch.setattr("rl_framework.errors.find_spec", lambda name: None if name == "onnxscript" else object())
    with pytest.raises(MissingExtraError, match=r"'onnxscript' is needed for save_as_onnx: pip install .*\[onnx\]"):
        save_as_onnx(agent, tmp_path / "agent.onnx")
