"""Any value anywhere in a bundle gives an agent or a `BundleError`, quickly and without taking memory."""

import json
import time

import numpy as np
import pytest
import torch
from tests.agent.hostile import PATIENCE, refused, setting

from rl_framework import BundleError, load_agent
from rl_framework.agent.reinforcement.library.state.size_limit import limited_parameters

# Values

HOSTILE = [None, "text", [], {}, [1, [2]], -1, 0, 1.5, True, 10**400, "9" * 10_000]
HOSTILE += [{"$float": "nan"}, {"$x": 1}, {"type": "linear"}, [[]] * 5]


def loads_or_is_refused(path):
    """Whatever is in a file, it is an agent that acts, or it is a `BundleError`."""
    start = time.monotonic()
    try:
        agent = load_agent(path)
    except BundleError:
        return
    finally:
        assert time.monotonic() - start < PATIENCE
    agent.choose_action(np.zeros(agent.observation_space.shape, np.float32))
    agent.choose_action(np.zeros(agent.observation_space.shape, np.float32), deterministic=False)


@pytest.mark.parametrize("kind", ["ppo", "normalised", "sac"])
def test_any_value_under_any_key_is_taken_or_refused(forge, bundles, kind):
    config = json.loads(bundles[kind]["config.json"])
    for key in config:
        for value in HOSTILE:
            loads_or_is_refused(forge(kind, config=setting(key, value)))
        refused(forge(kind, config=lambda data, key=key: data.pop(key)))


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("algorithm", [None, 3, [], {}]),
        ("algorithm_parameters", [None, 3, [], "text", {"$tuple": []}]),
        ("observation_space", [None, {}, {"type": "box"}, {"type": "discrete", "n": -1, "start": 0, "dtype": "<i8"}]),
        ("action_space", [None, {}, "discrete", {"type": "tuple", "spaces": []}]),
        ("n_environments", [None, "2", 1.5, True, 0, -1, 10**9, 10**400]),
        ("environment_id", [3, [], {}, True, "module:Env-v0"]),
        ("seed", ["1", 1.5, -1, True, 1 << 32]),
        ("normalize_observations", [None, 0, 1, "true", True]),
        ("has_foreign_normaliser", [None, 0, "false"]),
        ("counters", [None, {}, [], {"num_timesteps": 1}]),
        ("acting", [None, [], {"exploration_rate": "x"}, {"exploration_rate": -1}, {"exploration_rate": 10**400}]),
    ],
)
def test_values_of_the_wrong_type_are_refused(forge, key, values):
    for value in values:
        refused(forge(config=setting(key, value)))


@pytest.mark.parametrize("name", ["num_timesteps", "_n_updates", "_episode_num"])
def test_counters_count(forge, name):
    for value in (None, "5", 1.5, -1, True, 10**30):
        refused(forge(config=setting("counters", name, value)))


@pytest.mark.parametrize("content", [b"", b"null", b"[]", b'"text"', b"{}", b"{", b"\xff", b"NaN", b'{"a":1,"a":2}'])
def test_a_configuration_that_is_none_is_refused(forge, content):
    refused(forge(replace={"config.json": content}))


COMMON = ["policy", "policy_kwargs", "learning_rate", "gamma", "seed", "stats_window_size", "use_sde"]
PARAMETER_NAMES = {
    "ppo": [*COMMON, "n_steps", "batch_size", "clip_range", "rollout_buffer_class", "rollout_buffer_kwargs"],
    "sac": [
        *COMMON,
        *("buffer_size", "train_freq", "action_noise", "replay_buffer_class", "replay_buffer_kwargs", "n_steps"),
        *("optimize_memory_usage", "ent_coef", "target_entropy"),
    ],
}


@pytest.mark.parametrize("kind", PARAMETER_NAMES)
def test_any_value_of_any_parameter_is_taken_or_refused(forge, kind):
    for name in PARAMETER_NAMES[kind]:
        for value in HOSTILE:
            loads_or_is_refused(forge(kind, config=setting("algorithm_parameters", name, value)))
    names = ["net_arch", "activation_fn", "optimizer_class", "optimizer_kwargs", "features_extractor_class"]
    for name in [*names, "features_extractor_kwargs", "n_critics", "log_std_init", "normalize_images"]:
        for value in HOSTILE:
            loads_or_is_refused(forge(kind, config=setting("algorithm_parameters", "policy_kwargs", name, value)))


# Sizes


def peak_memory():
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


HUGE = [
    ("ppo", ("policy_kwargs", {"net_arch": [10**9]})),
    ("ppo", ("policy_kwargs", {"net_arch": [10**5, 10**5]})),
    ("ppo", ("policy_kwargs", {"net_arch": [10**18, 10**18]})),
    ("ppo", ("policy_kwargs", {"net_arch": [8] * 9_000})),
    ("ppo", ("policy_kwargs", {"net_arch": [8] * 100_000})),
    ("ppo", ("policy_kwargs", {"net_arch": {"pi": [8], "vf": [30_000, 30_000]}})),
    ("sac", ("policy_kwargs", {"net_arch": [8], "n_critics": 10**9})),
    ("sac", ("policy_kwargs", {"net_arch": {"pi": [8], "qf": [50_000, 50_000]}})),
]


@pytest.mark.parametrize(("kind", "parameter"), HUGE, ids=lambda value: str(value)[:50])
def test_a_network_far_larger_than_its_file_is_refused_before_it_takes_memory(forge, kind, parameter):
    before = peak_memory()
    refused(forge(kind, config=setting("algorithm_parameters", *parameter)))
    assert peak_memory() - before < 300_000  # kilobytes


@pytest.mark.parametrize(
    ("kind", "parameter"),
    [
        ("ppo", ("n_steps", 10**12)),
        ("ppo", ("n_steps", 10**9)),
        ("ppo", ("stats_window_size", 10**15)),
        ("sac", ("buffer_size", 10**13)),
        ("dqn", ("buffer_size", 10**9)),
        ("dqn", ("replay_buffer_kwargs", {"handle_timeout_termination": False})),
    ],
    ids=str,
)
def test_buffers_that_would_be_huge_are_not_made_only_to_act(forge, kind, parameter):
    before = peak_memory()
    agent = load_agent(forge(kind, config=setting("algorithm_parameters", *parameter)))
    agent.choose_action(np.zeros(agent.observation_space.shape))
    assert agent.algorithm_parameters[parameter[0]] == parameter[1]
    assert peak_memory() - before < 300_000


def test_many_environments_take_no_memory(forge):
    before = peak_memory()
    for kind in ("ppo", "dqn", "normalised"):
        assert load_agent(forge(kind, config=setting("n_environments", 1 << 16))).algorithm.n_envs == 1 << 16
    assert peak_memory() - before < 100_000


def test_a_space_far_larger_than_its_file_is_refused(forge):
    before = peak_memory()
    bound = {"dtype": "<f4", "shape": [10**6, 10**6], "values": 0.0}
    refused(forge(config=setting("observation_space", {"type": "box", "low": bound, "high": bound})))
    for n in (10**6, 10**12, 2**62):
        space = {"type": "discrete", "n": n, "start": 0, "dtype": "<i8"}
        refused(forge(config=setting("observation_space", space)))
        refused(forge(config=setting("action_space", space)))
    assert peak_memory() - before < 300_000


def test_the_limit_holds_for_parameters_and_elements_and_ends_with_the_block():
    with pytest.raises(BundleError, match="larger networks"), limited_parameters({"a": torch.zeros(10)}):
        torch.nn.Linear(10, 10)
    with pytest.raises(BundleError, match="larger networks"), limited_parameters({"a": torch.zeros(1000)}):
        [torch.nn.Linear(1, 1) for _ in range(3)]
    with limited_parameters({"a": torch.zeros(10, 10), "b": torch.zeros(10)}):
        torch.nn.Linear(10, 10)
    torch.nn.Linear(50, 50)


def test_a_parameter_without_a_size_yet_is_counted_without_one():
    with limited_parameters({"weight": torch.zeros(3, 1), "bias": torch.zeros(3)}):
        torch.nn.LazyLinear(3)
