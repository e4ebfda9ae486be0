"""Files for ML-Agents in Unity: its names and shapes, operators that it reads, and the agent's own actions.

What is expected here was taken from ML-Agents itself: `EXPECTED` is what `ModelSerializer` of the package mlagents
0.28.0 (`mlagents/trainers/torch/model_serialization.py`, `networks.py`) wrote when it was run on torch 2.13 with an
untrained `SimpleActor` for each behaviour (the free axes of its last outputs have other names there); the file of later
versions (`torch_entities/model_serialization.py`) has the same names. No Unity build was run.
"""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from tests.agent.reinforcement.export.test_programs import built, sampled
from tests.agent.samples import SMALL

from rl_framework import ImitationAgent, StableBaselinesAgent
from rl_framework.agent.reinforcement.export.unity import save_for_unity
from rl_framework.environment.unity.options import make_options
from rl_framework.episode import Episode, EpisodeSequence
from rl_framework.errors import ArgumentError, MissingExtraError, NotTrainedError, UnsupportedSpaceError

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

FLOAT, INT64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
VERSION, NO_MEMORY = ("version_number", FLOAT, [1]), ("memory_size", FLOAT, [1])
# Behaviour: inputs and outputs in their order. A vector of 5, an image of 36 x 40 x 3.
EXPECTED = {
    "2 continuous": (
        [("obs_0", FLOAT, ["batch", 5])],
        [
            VERSION,
            NO_MEMORY,
            ("continuous_actions", FLOAT, ["batch", 2]),
            ("continuous_action_output_shape", FLOAT, [1]),
            ("deterministic_continuous_actions", FLOAT, ["batch", 2]),
        ],
    ),
    "branches of 3 and 4, with a camera": (
        [
            ("obs_0", FLOAT, ["batch", 5]),
            ("obs_1", FLOAT, ["batch", 3, 36, 40]),
            ("action_masks", FLOAT, ["batch", 7]),
        ],
        [
            VERSION,
            NO_MEMORY,
            ("discrete_actions", INT64, ["batch", 2]),
            ("discrete_action_output_shape", FLOAT, [1, 2]),
            ("deterministic_discrete_actions", INT64, ["batch", 2]),
        ],
    ),
    "1 continuous and a branch of 5": (
        [("obs_0", FLOAT, ["batch", 5]), ("action_masks", FLOAT, ["batch", 5])],
        [
            VERSION,
            NO_MEMORY,
            ("continuous_actions", FLOAT, ["batch", 1]),
            ("continuous_action_output_shape", FLOAT, [1]),
            ("deterministic_continuous_actions", FLOAT, ["batch", 1]),
            ("discrete_actions", INT64, ["batch", 1]),
            ("discrete_action_output_shape", FLOAT, [1, 1]),
            ("deterministic_discrete_actions", INT64, ["batch", 1]),
        ],
    ),
    "2 continuous, with a memory of 16": (
        [("obs_0", FLOAT, ["batch", 5]), ("recurrent_in", FLOAT, ["batch", 1, 16])],
        [
            VERSION,
            NO_MEMORY,
            ("continuous_actions", FLOAT, ["batch", 2]),
            ("continuous_action_output_shape", FLOAT, [1]),
            ("deterministic_continuous_actions", FLOAT, ["batch", 2]),
            ("recurrent_out", FLOAT, ["batch", 1, 16]),
        ],
    ),
}
VECTOR = spaces.Box(-np.inf, np.inf, (5,))
IMAGE = spaces.Box(0, 255, (36, 40, 3), np.uint8)
BOTH = spaces.Dict({"obs_0": VECTOR, "obs_1": IMAGE})
CONTINUOUS, BRANCH, BRANCHES = spaces.Box(-1, 1, (2,)), spaces.Discrete(5), spaces.MultiDiscrete([3, 4])
MEMORY = {"policy_kwargs": {**SMALL, "lstm_hidden_size": 8}}
TWO_LAYERS = {"policy_kwargs": {**SMALL, "lstm_hidden_size": 4, "n_lstm_layers": 2}}
CNN = {"policy_kwargs": {"features_extractor_kwargs": {"features_dim": 16}, **SMALL}}

CASES = {
    "ppo continuous": ("PPO", VECTOR, CONTINUOUS, {}),
    "ppo branches and camera": ("PPO", BOTH, BRANCHES, {}),
    "ppo camera with channels first": ("PPO", spaces.Box(0, 255, (3, 36, 40), np.uint8), BRANCH, CNN),
    "ppo gSDE": ("PPO", VECTOR, CONTINUOUS, {"use_sde": True}),
    "sac": ("SAC", VECTOR, CONTINUOUS, {}),
    "td3": ("TD3", VECTOR, CONTINUOUS, {}),
    "tqc": ("TQC", VECTOR, CONTINUOUS, {}),
    "crossq": ("CrossQ", VECTOR, CONTINUOUS, {}),
    "ars": ("ARS", VECTOR, CONTINUOUS, {}),
    "dqn camera": ("DQN", IMAGE, BRANCH, CNN),
    "qrdqn": ("QRDQN", VECTOR, BRANCH, {}),
    "maskable branch": ("MaskablePPO", VECTOR, BRANCH, {}),
    "maskable branches": ("MaskablePPO", BOTH, BRANCHES, {}),
    "recurrent": ("RecurrentPPO", VECTOR, CONTINUOUS, MEMORY),
    "recurrent discrete, two layers": ("RecurrentPPO", VECTOR, BRANCH, TWO_LAYERS),
}


def described(values):
    return [
        (
            value.name,
            value.type.tensor_type.elem_type,
            [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim],
        )
        for value in values
    ]


def inputs_for(observations):
    """Observations as a scene in Unity gives them: float32, images from 0 to 1 with their channels in front."""
    parts = observations if isinstance(observations, dict) else {"obs_0": observations}
    given = {}
    for name, array in parts.items():
        if array.dtype == np.uint8:
            array = array.astype(np.float32) / 255
            array = array if array.shape[1] == 3 else np.moveaxis(array, 3, 1)
        given[name] = array.astype(np.float32)
    return given


def run(path, **inputs):
    session = onnxruntime.InferenceSession(str(path))
    return dict(zip([node.name for node in session.get_outputs()], session.run(None, inputs), strict=True))


def masks_for(count, sizes, seed=0):
    """At least one choice of each branch is allowed."""
    random = np.random.default_rng(seed)
    parts = [random.random((count, size)) < 0.5 for size in sizes]
    for part, size in zip(parts, sizes, strict=True):
        part[np.arange(count), random.integers(0, size, count)] = True
    return np.concatenate(parts, axis=1)


@pytest.mark.parametrize("opset", [9, 15])
@pytest.mark.parametrize("behaviour", EXPECTED)
def test_names_shapes_and_types_are_ml_agents_own(behaviour, opset, tmp_path):
    cases = {
        "2 continuous": (("SAC", VECTOR, CONTINUOUS, {}), {}),
        "branches of 3 and 4, with a camera": (("PPO", BOTH, BRANCHES, {}), {}),
        "1 continuous and a branch of 5": (("PPO", VECTOR, spaces.Box(-1, 1, (6,)), {}), {"hybrid_actions": (1, [5])}),
        "2 continuous, with a memory of 16": (("RecurrentPPO", VECTOR, CONTINUOUS, MEMORY), {}),
    }
    case, options = cases[behaviour]
    path = save_for_unity(built(*case), tmp_path / "Reach.onnx", opset, **options)
    model = onnx.load(path)
    assert (described(model.graph.input), described(model.graph.output)) == EXPECTED[behaviour]
    assert [(each.domain, each.version) for each in model.opset_import] == [("", opset)]
    constants = {
        node.output[0]: onnx.numpy_helper.to_array(node.attribute[0].t)
        for node in model.graph.node
        if node.op_type == "Constant"
    }
    assert constants["version_number"].tolist() == [3]
    assert constants["memory_size"].tolist() == [16 if "memory" in behaviour else 0]
    if "continuous" in behaviour:
        assert constants["continuous_action_output_shape"].tolist() == [int(behaviour[0])]
    if "branch" in behaviour:
        assert constants["discrete_action_output_shape"].tolist() == [[3, 4] if "4" in behaviour else [5]]
    # Older versions in Unity look for constants, and for no number but these kinds.
    assert {tensor.data_type for tensor in model.graph.initializer} <= {FLOAT, INT64}


@pytest.mark.parametrize("case", CASES)
def test_it_acts_as_the_agent_with_operators_that_unity_lists(case, tmp_path, caplog):
    algorithm, observation_space, action_space, parameters = CASES[case]
    agent = built(algorithm, observation_space, action_space, parameters)
    path = agent.save_for_unity(tmp_path / "model.onnx")
    assert "list of operators" not in caplog.text
    everything = sampled(observation_space, 300)
    sizes = [5] if action_space == BRANCH else [3, 4] if action_space == BRANCHES else []
    seen = set()
    for count in (1, 7, 300):
        rows = (
            {key: part[:count] for key, part in everything.items()}
            if isinstance(everything, dict)
            else everything[:count]
        )
        inputs, options, state = inputs_for(rows), {}, None
        if sizes:
            masks = masks_for(count, sizes)
            inputs["action_masks"] = masks.astype(np.float32)
            options = {"action_masks": masks} if algorithm == "MaskablePPO" else {}
        if algorithm == "RecurrentPPO":
            layers, hidden = (1, 8) if parameters is MEMORY else (2, 4)
            memory = np.random.default_rng(1).normal(size=(count, 1, 16)).astype(np.float32)
            state = tuple(
                half.transpose(1, 0, 2) for half in np.split(memory.reshape(count, 2 * layers, hidden), 2, axis=1)
            )
            inputs["recurrent_in"] = memory
        wanted, next_state = agent.predict(rows, state, np.zeros(count, np.bool_), True, **options)
        found = run(path, **inputs)
        if sizes:
            assert found["discrete_actions"].shape == (count, len(sizes))
            np.testing.assert_array_equal(found["discrete_actions"], wanted.reshape(count, -1))
            if algorithm == "MaskablePPO":
                starts = np.cumsum([0, *sizes[:-1]])
                assert np.take_along_axis(masks, found["discrete_actions"] + starts, axis=1).all()
        else:
            np.testing.assert_allclose(found["continuous_actions"], wanted, rtol=0, atol=1e-5)
            assert np.abs(found["continuous_actions"]).max() <= 1
        kind = "discrete" if sizes else "continuous"
        np.testing.assert_array_equal(found[f"deterministic_{kind}_actions"], found[f"{kind}_actions"])
        if next_state is not None:
            back = np.concatenate([part.transpose(1, 0, 2).reshape(count, 1, -1) for part in next_state], axis=2)
            np.testing.assert_allclose(found["recurrent_out"], back, rtol=0, atol=1e-5)
        seen.update(map(tuple, found[f"{kind}_actions"].tolist()))
    assert len(seen) > 1, "an agent that always does the same shows nothing"


def test_a_memory_of_zeros_is_the_beginning_of_an_episode(tmp_path):
    agent = built("RecurrentPPO", VECTOR, CONTINUOUS, MEMORY)
    path = agent.save_for_unity(tmp_path / "model.onnx")
    observation, memory, state = sampled(VECTOR, 4), np.zeros((1, 1, 16), np.float32), None
    for row in observation:
        found = run(path, obs_0=row[None].astype(np.float32), recurrent_in=memory)
        action, state = agent.choose_action(row, deterministic=True, state=state)
        np.testing.assert_allclose(found["continuous_actions"][0], action, atol=1e-5)
        memory = found["recurrent_out"]


def test_large_means_survive_single_precision(tmp_path):
    agent = built("PPO", VECTOR, CONTINUOUS)
    mean, variance, _ = agent.normaliser.observation[""]
    mean[:], variance[:] = 12345.678901, 1e-2
    path = agent.save_for_unity(tmp_path / "model.onnx")
    observations = (12345.678901 + np.random.default_rng(0).normal(size=(50, 5)) / 10).astype(np.float32)
    wanted = agent.predict(observations, deterministic=True)[0]
    np.testing.assert_allclose(run(path, obs_0=observations)["continuous_actions"], wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("algorithm", "form"), [("PPO", "scores"), ("PPO", "bins"), ("MaskablePPO", "bins")])
def test_both_kinds_of_actions_are_what_the_adapter_makes_of_them(algorithm, form, tmp_path):
    pytest.importorskip("mlagents_envs")
    from rl_framework.environment.unity import load_mlagents_envs
    from rl_framework.environment.unity.spaces import BehaviorSpaces

    load_mlagents_envs()
    from mlagents_envs.base_env import ActionSpec, BehaviorSpec, DimensionProperty, ObservationSpec, ObservationType

    sensor = ObservationSpec((5,), (DimensionProperty.NONE,), ObservationType.DEFAULT, "vector")
    behaviour = BehaviorSpaces(
        "Reach", BehaviorSpec([sensor], ActionSpec(2, (3, 4))), make_options({"hybrid_actions": form, "n_bins": 7})
    )
    agent = built(algorithm, behaviour.observation_space, behaviour.action_space)
    path = agent.save_for_unity(tmp_path / "model.onnx", hybrid_actions=(2, [3, 4]))
    observations, masks = sampled(VECTOR, 100), masks_for(100, [3, 4])
    options = {}
    if algorithm == "MaskablePPO":
        options["action_masks"] = np.stack([behaviour.mask_info(mask)["action_mask"] for mask in masks])
    actions = agent.predict(observations, None, np.zeros(100, np.bool_), True, **options)[0]
    continuous, discrete = behaviour.actions(list(actions), list(masks))
    found = run(path, obs_0=observations.astype(np.float32), action_masks=masks.astype(np.float32))
    np.testing.assert_allclose(found["continuous_actions"], continuous, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(found["discrete_actions"], discrete)
    assert len(np.unique(discrete, axis=0)) > 1


def test_a_cloned_policy_goes_back_by_way_of_a_reinforcement_learning_agent(tmp_path):
    random = np.random.default_rng(0)
    observations = random.normal(size=(41, 5)).astype(np.float32)
    episode = Episode(observations, np.tanh(observations[:-1, :2]), np.zeros(40), True, False)
    clone = ImitationAgent("bc", {"device": "cpu"})
    clone.train(EpisodeSequence.from_episodes([episode], VECTOR, CONTINUOUS), total_timesteps=800, progress_bar=False)
    path = StableBaselinesAgent.from_agent(clone).save_for_unity(tmp_path / "clone.onnx")
    wanted = np.stack([clone.choose_action(row, deterministic=True) for row in observations])
    np.testing.assert_allclose(run(path, obs_0=observations)["continuous_actions"], wanted, rtol=0, atol=1e-5)


def test_the_channels_of_an_image_can_be_said(tmp_path):
    space = spaces.Box(-np.inf, np.inf, (4, 6, 5))  # a sensor that is no image: its smallest axis is the first
    agent = built("PPO", space, CONTINUOUS)
    rows = sampled(space, 3).astype(np.float32)
    wanted = agent.predict(rows, deterministic=True)[0]
    first = agent.save_for_unity(tmp_path / "first.onnx")
    np.testing.assert_allclose(run(first, obs_0=rows)["continuous_actions"], wanted, atol=1e-5)
    last = agent.save_for_unity(tmp_path / "last.onnx", channels_first=False)
    np.testing.assert_allclose(run(last, obs_0=np.moveaxis(rows, 3, 1))["continuous_actions"], wanted, atol=1e-5)


# What is refused


REFUSED = {
    "bounds": (VECTOR, spaces.Box(-2, 2, (1,)), {}, UnsupportedSpaceError, "from -1 to 1"),
    "bits": (VECTOR, spaces.MultiBinary(2), {}, UnsupportedSpaceError, "MultiDiscrete"),
    "names": (
        spaces.Dict({"camera": VECTOR, "obs_1": VECTOR}),
        CONTINUOUS,
        {},
        UnsupportedSpaceError,
        r"\['obs_0', 'obs_1'\]",
    ),
    "sensor": (spaces.Discrete(4), CONTINUOUS, {}, UnsupportedSpaceError, "observe a Box"),
    "opset": (VECTOR, CONTINUOUS, {"opset": 18}, ArgumentError, "from 9 to 15"),
    "scores": (VECTOR, CONTINUOUS, {"hybrid_actions": (1, [3])}, ArgumentError, "not what the adapter makes"),
    "bins": (VECTOR, BRANCHES, {"hybrid_actions": (1, [3])}, ArgumentError, "not what the adapter makes"),
    "no continuous": (VECTOR, BRANCHES, {"hybrid_actions": (0, [3, 4])}, ArgumentError, "not what the adapter makes"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_behaviour_can_have_is_refused_and_nothing_is_written(case, tmp_path):
    observation_space, action_space, options, error, match = REFUSED[case]
    agent = built("PPO", observation_space, action_space)
    with pytest.raises(error, match=match):
        agent.save_for_unity(tmp_path / "model.onnx", **options)
    assert not list(tmp_path.iterdir())


def test_a_file_that_acts_differently_is_not_written(tmp_path, monkeypatch):
    agent = built("PPO", VECTOR, CONTINUOUS)
    predict = agent.predict
    monkeypatch.setattr(agent, "predict", lambda *args, **kwargs: (predict(*args, **kwargs)[0] + 0.1, None))
    with pytest.raises(ArgumentError, match="acts differently in Unity: continuous_actions"):
        agent.save_for_unity(tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_an_agent_without_a_model_and_a_missing_library(tmp_path, monkeypatch):
    with pytest.raises(NotTrainedError):
        StableBaselinesAgent("ppo").save_for_unity(tmp_path / "model.onnx")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("rl_framework.errors.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="rl-framework\\[onnx\\]"):
        built("PPO", VECTOR, CONTINUOUS).save_for_unity(tmp_path / "model.onnx")


def test_exporting_leaves_the_agent_as_it_was(tmp_path):
    agent = built("PPO", VECTOR, BRANCH)
    before = {name: tensor.clone() for name, tensor in agent.algorithm.policy.state_dict().items()}
    distribution = agent.algorithm.policy.action_dist
    agent.save_for_unity(tmp_path / "model.onnx")
    assert agent.algorithm.policy.action_dist is distribution
    assert all(torch.equal(tensor, before[name]) for name, tensor in agent.algorithm.policy.state_dict().items())
    assert next(iter(agent.normaliser.observation.values()))[0].dtype == np.float64
