"""Opening somebody else's bundle: it is an agent, or it is refused, and nothing of it runs."""

import pickle
import sys
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from tests.agent.hostile import refused, setting
from tests.agent.samples import make, train, trained, weights

from rl_framework import BundleError, load_agent


def test_the_forger_forges_bundles_that_can_be_opened(forge, bundles):
    for kind in bundles:
        agent = load_agent(forge(kind, config=lambda data: None))
        assert agent.num_timesteps == 48


# The container


class Runs:
    def __reduce__(self):
        return Path.touch, (Path("pwned"),)


@pytest.mark.parametrize("name", ["policy.pkl", "policy.pth", "data", "__main__.py", "agent.pickle"])
def test_a_pickle_in_a_bundle_is_refused_and_not_run(forge, name):
    refused(forge(replace={name: pickle.dumps(Runs())}), "pickle")
    assert not Path("pwned").exists()


@pytest.mark.parametrize("name", ["policy.safetensors", "config.json", "normaliser.npz"])
def test_a_pickle_under_an_honest_name_is_refused_and_not_run(forge, name):
    refused(forge("normalised", replace={name: pickle.dumps(Runs())}))
    assert not Path("pwned").exists()


def test_an_array_of_objects_is_refused_and_not_run(forge, tmp_path):
    np.savez(tmp_path / "objects.npz", reward=np.array([Runs()], dtype=object))
    refused(forge("normalised", replace={"normaliser.npz": (tmp_path / "objects.npz").read_bytes()}))
    assert not Path("pwned").exists()


@pytest.mark.parametrize("name", ["../escaped.json", "/tmp/escaped.json", "a/../../escaped.json", "..\\escaped.json"])
def test_a_path_outside_the_archive_is_refused(forge, name, tmp_path):
    refused(forge(replace={name: b"{}"}))
    assert not list(tmp_path.parent.rglob("escaped*"))


def test_truncated_data_is_refused_wherever_it_ends(forge):
    path = forge()
    whole = path.read_bytes()
    for size in [0, 1, 100, len(whole) // 2, len(whole) - 30, len(whole) - 1]:
        path.write_bytes(whole[:size])
        refused(path)


def test_a_changed_byte_is_noticed(forge):
    content = forge().read_bytes()
    place = content.index(b"algorithm_parameters")
    path = forge()
    path.write_bytes(content[:place] + b"X" + content[place + 1 :])
    refused(path)


@pytest.mark.parametrize("drop", ["config.json", "policy.safetensors", "normaliser.npz"])
def test_a_missing_member_is_refused(forge, drop):
    refused(forge("normalised", drop=[drop]))


def test_a_file_that_is_no_bundle_is_refused(tmp_path):
    path = tmp_path / "agent.zip"
    refused(path, "no such file")
    refused(tmp_path)
    path.write_bytes(pickle.dumps(Runs()))
    refused(path)
    trained().algorithm.save(path)
    refused(path, "Stable-Baselines3")
    assert not Path("pwned").exists()


# Names


@pytest.mark.parametrize("name", ["os:system", "os.system", "builtins:eval", "no_such_thing", "", "__import__"])
def test_names_that_nobody_registered_are_refused(forge, name):
    for config in (
        setting("algorithm", name),
        setting("features_extractor", name or "-"),
        setting("features_extractor", {"type": name}),
        setting("algorithm_parameters", "policy_kwargs", {"activation_fn": name}),
        setting("algorithm_parameters", "policy_kwargs", {"activation_fn": {"$class": name}}),
        setting("algorithm_parameters", "policy_kwargs", {"activation_fn": {"$class": f"activation/{name}"}}),
        setting("algorithm_parameters", "policy_kwargs", {"optimizer_class": name}),
        setting("algorithm_parameters", "policy", name or "-"),
        setting("algorithm_parameters", "learning_rate", {"type": name}),
        setting("algorithm_parameters", "policy", {"$python": name}),
    ):
        refused(forge(config=config))


@pytest.fixture
def evil_module(tmp_path, monkeypatch):
    """A module that leaves a trace when it is imported."""
    name = f"evil_module_{tmp_path.name.replace('-', '_')}"
    trace = tmp_path / "imported"
    (tmp_path / f"{name}.py").write_text(
        f"import pathlib, gymnasium\npathlib.Path({str(trace)!r}).touch()\n"
        "gymnasium.register('Env-v0', 'gymnasium.envs.classic_control:CartPoleEnv')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    assert not trace.exists()
    assert name not in sys.modules


def test_an_environment_id_with_a_module_prefix_is_refused(forge, evil_module):
    refused(forge(config=setting("environment_id", f"{evil_module}:Env-v0")), "module prefix")


@pytest.mark.parametrize("registry", ["algorithm", "agent", "policy", "replay_buffer", "optimizer", "activation"])
def test_a_registered_class_in_a_place_that_is_not_its_own_is_refused(forge, evil_module, registry):
    # An algorithm of Stable-Baselines3 imports what its env argument names when it is called.
    name = {"algorithm": "ppo", "replay_buffer": "her", "optimizer": "sgd", "activation": "tanh"}.get(registry, "ppo")
    value, arguments = {"$class": f"{registry}/{name}"}, {"env": f"{evil_module}:Env-v0"}
    places = [
        setting("features_extractor", value),
        setting("features_extractor", {"type": value, **arguments}),
        setting(
            "algorithm_parameters",
            "policy_kwargs",
            {"features_extractor_class": value, "features_extractor_kwargs": arguments},
        ),
        setting("algorithm_parameters", "policy_kwargs", {"optimizer_class": value, "optimizer_kwargs": arguments}),
        setting("algorithm_parameters", "policy_kwargs", {"activation_fn": value}),
        setting("algorithm_parameters", "policy", value),
        setting("algorithm_parameters", "rollout_buffer_class", value),
        setting("algorithm_parameters", "learning_rate", value),
    ]
    own = {"optimizer": 3, "activation": 4, "replay_buffer": 6}.get(registry)
    for index, place in enumerate(places):
        if index != own:
            refused(forge(config=place))
    for kind in ("dqn", "sac"):
        if registry != "replay_buffer":
            refused(forge(kind, config=setting("algorithm_parameters", "replay_buffer_class", value)))


def test_an_environment_among_the_parameters_is_refused(forge, evil_module):
    for name in ("env", "eval_env", "_init_setup_model"):
        refused(forge(config=setting("algorithm_parameters", name, f"{evil_module}:Env-v0")))
        refused(forge(config=setting("algorithm_parameters", "policy_kwargs", {name: f"{evil_module}:Env-v0"})))
        refused(forge("dqn", config=setting("algorithm_parameters", "replay_buffer_kwargs", {name: evil_module})))


# Tensors


def change_tensors(bundles, kind, change, member="policy.safetensors"):
    tensors = safetensors.torch.load(bundles[kind][member])
    change(tensors)
    return {member: safetensors.torch.save(tensors)}


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: tensors.clear(),
        lambda tensors: tensors.pop("action_net.weight"),
        lambda tensors: tensors.update(extra=torch.zeros(1)),
        lambda tensors: tensors.update({"action_net.weight": torch.zeros(8, 2)}),
        lambda tensors: tensors.update({"action_net.weight": torch.zeros(2, 9)}),
        lambda tensors: tensors.update({"action_net.weight": torch.zeros(2, 8, dtype=torch.float64)}),
        lambda tensors: tensors.update({"action_net.weight": torch.zeros(2, 8, dtype=torch.int32)}),
        lambda tensors: tensors.update({"action_net.weight": torch.zeros(0)}),
    ],
)
def test_tensors_that_do_not_fit_are_refused(forge, bundles, change):
    refused(forge(replace=change_tensors(bundles, "ppo", change)))


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: tensors.clear(),
        lambda tensors: tensors.pop("exploration_matrices"),
        lambda tensors: tensors.update(exploration_mat=torch.zeros(3, 3)),
        lambda tensors: tensors.update(exploration_matrices=torch.zeros(0, 8, 1)),
        lambda tensors: tensors.update(exploration_matrices=torch.zeros(8, 1)),
        lambda tensors: tensors.update(exploration_mat=tensors["exploration_mat"].double()),
    ],
)
def test_noise_that_does_not_fit_is_refused(forge, bundles, change):
    refused(forge("gsde", replace=change_tensors(bundles, "gsde", change, "acting.safetensors")))


def test_statistics_that_are_missing_or_too_many_are_refused(forge, bundles):
    extra = {"normaliser.npz": bundles["normalised"]["normaliser.npz"]}
    refused(forge(replace=extra), "normaliser")
    refused(forge("normalised", config=setting("normalize_observations", False)), "normaliser")
    refused(forge("normalised", drop=["normaliser.npz"]), "normaliser")
    refused(forge(config=setting("normalize_observations", True)), "normaliser")
    refused(forge(config=setting("has_foreign_normaliser", True)), "normaliser")


# What a file has no say in


@pytest.mark.parametrize("name", ["device", "tensorboard_log", "verbose"])
@pytest.mark.parametrize("value", ["meta", "cuda:7", "logs", 2, None])
def test_device_logs_and_verbosity_are_not_chosen_by_the_file(forge, name, value, capsys):
    agent = load_agent(forge(config=setting("algorithm_parameters", name, value)))
    assert name not in agent.algorithm_parameters
    train(agent)
    assert agent.algorithm.device.type != "meta"
    assert not Path("logs").exists()
    assert capsys.readouterr().out == ""


def test_paths_are_data(forge):
    path = forge(config=setting("algorithm_parameters", "tensorboard_log", {"$path": "logs"}))
    train(load_agent(path))
    assert not Path("logs").exists()


def test_a_file_that_is_refused_with_parameters_of_the_callers_is_still_the_files_fault(forge):
    for parameters in ({"learning_rate": 1e-4}, {"no_such_parameter": 1}):
        with pytest.raises(BundleError):
            load_agent(forge(config=setting("algorithm", "os:system")), algorithm_parameters=parameters)
        with pytest.raises(BundleError):
            make("ppo").load_from_file(forge(config=setting("algorithm", "os:system")), parameters)


def test_a_refused_file_leaves_no_trace_in_the_process(forge):
    state = torch.get_rng_state().tolist(), str(np.random.get_state())
    modules = set(sys.modules)
    for change in (
        setting("algorithm", "os:system"),
        setting("algorithm_parameters", "policy_kwargs", {"net_arch": [10**9]}),
    ):
        refused(forge(config=change))
    assert (torch.get_rng_state().tolist(), str(np.random.get_state())) == state
    assert not {name for name in set(sys.modules) - modules if not name.startswith(("torch", "numpy", "scipy"))}


def test_loading_into_an_agent_is_as_strict(forge):
    agent = trained("ppo")
    before = deepcopy(weights(agent))
    for change in (setting("algorithm", "dqn"), setting("n_environments", 0), setting("counters", "num_timesteps", -1)):
        with pytest.raises(BundleError):
            agent.load_from_file(forge(config=change))
    assert all(np.array_equal(before[name], value) for name, value in weights(agent).items())
