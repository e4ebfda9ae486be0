"""A run is trained again from its record, which gives the same agent, or the first difference is named."""

import json
import sys
from pathlib import Path

import gymnasium
import pytest
from tests.agent.samples import ENVIRONMENTS, STEPS, Sampled, make, train, trained

from rl_framework import BundleError, Callback, EnvironmentAdapter, LocalConnector, registry
from rl_framework.agent.reproduce import reproduce
from rl_framework.bundle import read_bundle, write_bundle
from rl_framework.errors import ArgumentError


def run(algorithm="ppo", steps=STEPS, environment=None, **arguments):
    """Trains and uploads to a run directory; returns it."""
    connector = LocalConnector(Path("run"))
    agent = make(algorithm)
    train(agent, environment or ENVIRONMENTS[algorithm], steps, connector=connector, seed=3, **arguments)
    connector.upload(agent)
    return Path("run")


def change(directory, how):
    path = directory / "record.json"
    records = json.loads(path.read_text())
    for record in records:
        how(record)
    path.write_text(json.dumps(records))


def recorded(**values):
    return lambda record: record.update(values)


@pytest.mark.parametrize("algorithm", ["ppo", "sac", "dqn", "a2c"])
def test_a_run_is_reproduced_to_the_last_bit(algorithm):
    result = reproduce(run(algorithm))
    assert result.equal, result.difference
    assert result
    assert result.difference is None
    assert result.timesteps == STEPS
    assert "equal, to the last bit" in str(result)


def test_several_environments_normalisation_and_arguments_are_reproduced():
    connector = LocalConnector(Path("run"))
    agent = make("ppo", {"learning_rate": {"type": "linear", "start": 1e-2, "end": 0}}, normalize_observations=True)
    kwargs = {"max_episode_steps": 11}
    train(agent, total_timesteps=96, n_environments=3, environment_kwargs=kwargs, connector=connector, seed=1)
    connector.upload(agent)
    assert reproduce("run").equal
    change(Path("run"), recorded(environment_kwargs={"max_episode_steps": 12}))
    assert not reproduce("run").equal


@pytest.mark.parametrize(
    ("changed", "where"),
    [({"seed": 4}, "policy.safetensors"), ({"n_environments": 2}, "policy.safetensors")],
)
def test_a_record_that_says_something_else_gives_the_first_difference(changed, where):
    directory = run()
    change(directory, recorded(**changed))
    result = reproduce(directory)
    assert not result.equal
    assert not result
    assert where in result.difference
    assert "differs in" in result.difference
    assert result.difference in str(result)


def test_weights_that_were_changed_are_found():
    directory = run()
    with read_bundle(directory / "agent.zip") as bundle:
        members = {
            "config.json": bundle.json("config.json"),
            "policy.safetensors": bundle.tensors("policy.safetensors"),
        }
        kind = bundle.kind
    name = "action_net.bias"
    members["policy.safetensors"][name][0] += 1e-3
    write_bundle(directory / "agent.zip", kind=kind, members=members)
    result = reproduce(directory)
    assert not result.equal
    assert f"policy.safetensors: {name!r} differs in 1 of 2 numbers, by 0.001" in result.difference


@pytest.mark.parametrize("algorithm", ["ppo", "sac"])
def test_a_checkpoint_is_reproduced_from_what_it_holds_itself(algorithm):
    steps = 96
    agent = make(algorithm)
    train(agent, ENVIRONMENTS[algorithm], steps, seed=5, checkpoint_every=32, checkpoint_directory="checkpoints")
    for path in sorted(Path("checkpoints").iterdir())[:2]:
        with read_bundle(path) as bundle:
            information, kind = bundle.information, bundle.kind
            members = {
                name: getattr(bundle, {"json": "json", "npz": "arrays"}.get(name.rpartition(".")[2], "tensors"))(name)
                for name in bundle.names
            }
        write_bundle(path, kind=kind, members=members, information=information)
        result = reproduce(path)
        assert result.equal, result.difference
        assert result.timesteps < steps


def test_a_run_that_was_stopped_is_reproduced_until_there():
    class Stop(Callback):
        def on_step(self, training):
            if training.timestep >= 40:
                training.stop("enough")

    result = reproduce(run("sac", callbacks=[Stop()]))
    assert result.equal, result.difference
    assert result.timesteps == 40


def test_what_is_otherwise_here_is_noted():
    directory = run()
    change(directory, lambda record: record["versions"].update(torch="1.0"))
    result = reproduce(directory)
    assert any(note.startswith("torch was 1.0, and is ") for note in result.notes)
    assert "torch was 1.0" in str(result)


# What cannot be reproduced


def test_several_calls_of_train_cannot_be_reproduced_and_it_is_said():
    connector = LocalConnector(Path("run"))
    agent = make()
    for _ in range(2):
        train(agent, connector=connector)
    connector.upload(agent)
    with pytest.raises(ArgumentError, match="2 calls of train"):
        reproduce("run")


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"environment": None}, "not named"),
        ({"environment_source": "objects"}, "given as objects"),
        ({"choices": {"vectorization": {"value": "the caller's"}}}, "came vectorized"),
        ({"start": 100}, "had been trained before"),
    ],
)
def test_a_run_whose_record_does_not_suffice_says_what_is_missing(changed, reason):
    directory = run()
    change(directory, recorded(**changed))
    with pytest.raises(ArgumentError, match=reason):
        reproduce(directory)


def test_an_agent_without_a_record_or_a_folder_without_an_agent_is_refused(tmp_path):
    write = trained()
    Path("empty").mkdir()
    with pytest.raises(ArgumentError, match=r"record\.json"):
        reproduce("empty")
    path = write.save_to_file("agent.zip")
    with read_bundle(path) as bundle:
        members = {
            "config.json": bundle.json("config.json"),
            "policy.safetensors": bundle.tensors("policy.safetensors"),
        }
        kind = bundle.kind
    write_bundle(path, kind=kind, members=members)
    with pytest.raises(ArgumentError, match="no record"):
        reproduce(path)


# Somebody else's record


@pytest.fixture
def evil(tmp_path, monkeypatch):
    """A module that leaves a trace when it is imported."""
    Path("evil_module.py").write_text("from pathlib import Path\nPath('pwned').touch()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "evil_module"
    sys.modules.pop("evil_module", None)


@pytest.mark.parametrize(
    "changed",
    [
        {"environment": "evil_module:CartPole-v1"},
        {"environment": "evil_module:Evil-v0"},
        {"environment": "./game.x86_64"},
        {"environment": "Unheard-v0"},
        {"environment_kwargs": {"render_mode": "human"}},
        {"environment_kwargs": {"env_id": "evil_module:Env-v0"}, "environment": "GymV26Environment-v0"},
        {"environment_kwargs": {"xml_file": "/somewhere/else.xml"}},
        {"environment_kwargs": {"sutton_barto_reward": {"$path": "/somewhere"}}},
    ],
)
def test_a_record_imports_starts_and_opens_nothing_without_trust(evil, changed):
    directory = run()
    change(directory, recorded(**changed))
    with pytest.raises(BundleError, match="trust=True"):
        reproduce(directory)
    assert not Path("pwned").exists()
    assert evil not in sys.modules


def test_an_adapter_is_not_set_up_without_trust(monkeypatch):
    class Starts(EnvironmentAdapter):
        @classmethod
        def accepts(cls, source):
            raise AssertionError

        def setup(self, source, **kwargs):
            Path("pwned").touch()
            raise RuntimeError

        observation_space = action_space = None

        def reset(self, seed=None):
            raise RuntimeError

        def step(self, action):
            raise RuntimeError

    directory = run()
    registry.environment_adapters.register("starts_something", Starts)
    try:
        change(directory, recorded(environment="starts_something"))
        with pytest.raises(BundleError, match="trust=True"):
            reproduce(directory)
        assert not Path("pwned").exists()
    finally:
        registry.environment_adapters._entries.pop("starts_something", None)


def test_with_trust_a_module_is_imported_and_the_run_reproduced(tmp_path, monkeypatch):
    Path("own_module.py").write_text(
        "import gymnasium\n"
        "gymnasium.register('OwnCartPole-v0', 'gymnasium.envs.classic_control:CartPoleEnv', max_episode_steps=20)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    directory = run(environment="own_module:OwnCartPole-v0")
    change(directory, recorded(environment="own_module:OwnCartPole-v0"))
    try:
        with pytest.raises(BundleError, match="trust=True"):
            reproduce(directory)
        result = reproduce(directory, trust=True)
        assert result.equal, result.difference
    finally:
        sys.modules.pop("own_module", None)
        gymnasium.registry.pop("OwnCartPole-v0", None)


@pytest.mark.parametrize(
    "changed",
    [
        {"n_environments": 10**9},
        {"n_environments": True},
        {"n_environments": "2"},
        {"seed": -1},
        {"seed": None},
        {"total_timesteps": 0},
        {"total_timesteps": 1.5},
        {"environment_kwargs": [1]},
        {"environment_kwargs": {"$class": "nothing/x"}},
        {"environment_kwargs": {"no_such_argument": 1}},
    ],
)
def test_a_malformed_record_is_refused(changed):
    directory = run()
    change(directory, recorded(**changed))
    with pytest.raises((BundleError, ArgumentError)):
        reproduce(directory)


@pytest.mark.parametrize("text", ["", "{", "{}", "[1]", "[" * 100_000, '[{"environment": NaN}]', "[]"])
def test_a_file_that_is_no_record_is_refused(text):
    directory = run()
    (directory / "record.json").write_text(text)
    with pytest.raises((BundleError, ArgumentError)):
        reproduce(directory)


def test_an_environment_that_was_registered_here_is_made_without_trust():
    gymnasium.register("SampledForReproduction-v0", Sampled)
    try:
        directory = run(environment="SampledForReproduction-v0")
        assert reproduce(directory).equal
    finally:
        gymnasium.registry.pop("SampledForReproduction-v0")
