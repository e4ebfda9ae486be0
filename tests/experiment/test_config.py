"""A configuration is checked as a whole before anything happens, also what other packages add to it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rl_framework import registry
from rl_framework.connector import Connector
from rl_framework.environment import EnvironmentAdapter
from rl_framework.errors import ArgumentError, ConfigurationError, UnknownNameError
from rl_framework.experiment import Experiment, agent_section, load_config
from rl_framework.experiment.connectors import CONNECTOR, make_connector
from rl_framework.experiment.schema import role_schema

BASIC: dict[str, Any] = {"agent": {"algorithm": "ppo"}, "environment": {"id": "CartPole-v1"}}
HIDDEN = "q7w8e9r0t1y2u3"


def refusal(data: dict[str, Any], *overrides: str, **options: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_config(data, overrides, **options)
    return str(caught.value)


def changed(*overrides: str) -> str:
    return refusal(BASIC, *overrides).replace("override: ", "")


def test_every_mistake_of_a_file_is_told_at_once_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "walker.yaml"
    path.write_text(
        """\
name: a/b
seeds: [1, 1]
device: gpu
agent:
  type: stable_baselines
  algorithm: ppo
  parameters: {n_stps: 8, gamma: 1.5, learning_rate: {type: lnear, start: 1}, ent_coef: x, verbos: 1}
  normalise_observations: true
environment:
  id: CartPol-v1
  n_environments: 0
  wrappers: [{type: time_limit, max_episode_step: 3}]
training: {total_timesteps: 0.5, checkpoint_every: often}
evaluation: {deterministic: 1}
video: {overlay: {show: [rewrd], text_size: 3}}
connectors:
  - type: tensorbord
  - {type: huggingface, repository_id: me}
  - {type: clearml, tags: 3}
  - tensorboard
"""
    )
    with pytest.raises(ConfigurationError) as caught:
        load_config(path)
    problems = caught.value.problems
    assert [(problem.line, problem.key) for problem in problems] == [
        (1, "name"),
        (2, "seeds"),
        (3, "device"),
        (7, "agent.parameters.n_stps"),
        (7, "agent.parameters.verbos"),
        (7, "agent.parameters.learning_rate"),
        (7, "agent.parameters.gamma"),
        (7, "agent.parameters.ent_coef"),
        (8, "agent.normalise_observations"),
        (10, "environment.id"),
        (11, "environment.n_environments"),
        (12, "environment.wrappers[0].max_episode_step"),
        (12, "environment.wrappers[0].max_episode_steps"),
        (13, "training.total_timesteps"),
        (13, "training.checkpoint_every"),
        (14, "evaluation.deterministic"),
        (15, "video.overlay.text_size"),
        (15, "video.overlay.show[0]"),
        (17, "connectors[0].type"),
        (18, "connectors[1].repository_id"),
        (19, "connectors[2].tags"),
        (20, "connectors[3]"),
    ]
    text = str(caught.value)
    assert all(line.startswith(f"{path}:") for line in text.splitlines())
    for said in (
        "Did you mean 'n_steps'",
        "must be at most 1, and is 1.5",
        "Did you mean 'linear'",
        "did you mean 'normalize_observations'",
        "Did you mean 'CartPole-v1'",
        "must be at least 1, and is 0",
        "must be 'auto', an integer or null",
        "must be true or false, and is 1",
        "Did you mean 'tensorboard'",
    ):
        assert said in text


def test_what_does_not_go_together_is_told() -> None:
    text = changed("seed=1", "seeds=[1, 2]", "device=gpu", "name=../x")
    assert "seeds: is given beside seed" in text
    assert "device: must be auto, cpu, cuda" in text
    assert "name: must be usable as the name of a folder" in text
    text = refusal({"video": {}, "training": {"evaluate_every": 5}})
    keys = ("agent: is needed", "environment: is needed", "video: needs", "training.evaluate_every: needs")
    assert all(key in text for key in keys)
    assert load_config({}, injected=("agent", "training_environments")).agent is None
    assert "needs one of path, minari, hub and unity_demo, and has none" in changed("episodes={}")
    assert "has path and hub" in changed("episodes={path: a, hub: b/c}")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("agent=3", "agent: must be a mapping with the type of the agent, and is 3"),
        ("agent={}", "agent.type: is needed: one of composed, custom, imitation"),
        ("agent={type: stable_baseline}", "Did you mean 'stable_baselines'"),
        ("agent={algorithm: pppo}", "agent.algorithm: 'pppo': not known. Did you mean 'ppo'"),
        ("agent={algorithm: q_learning, parameters: {learning_rat: 1}}", "Did you mean 'learning_rate'"),
        ("agent={algorithm: bc, parameters: {batch_sise: 1}}", "Did you mean 'batch_size'"),
        ("agent={algorithm: ppo, parameters: [1]}", "agent.parameters: must be a mapping, and is [1]"),
        ("agent={algorithm: ppo, parameters: {env: x}}", "agent.parameters.env: 'x': cannot be set here"),
        ("agent={algorithm: ppo, parameters: {learning_rate: -1}}", "learning_rate: must be at least 0, and is -1"),
        ("agent={algorithm: ppo, parameters: {target_kl: -0.1}}", "target_kl: must be at least 0, and is -0.1"),
        ("agent={algorithm: ppo, parameters: {clip_range: x}}", "clip_range: must be a number or a mapping"),
        ("agent={algorithm: bc}", "episodes: is needed, such as {path: data/expert}"),
        ("environment={id: BipedalWalker}", "Did you mean 'BipedalWalker-v3'"),
        ("agent={type: composed, parts: [{type: ppo, n_stps: 8}]}", "agent.parts[0].n_stps: there is no such key"),
        ("agent={type: composed, parts: [poo]}", "agent.parts[0].type: 'poo': not known"),
        ("agent={type: multi, groups: {a: {algorithm: pppo}}}", "agent.groups.a.algorithm: 'pppo': not known"),
        ("agent={type: multi, groups: {}}", "agent.groups: {}: must be a mapping of names to agents"),
        ("environment={}", "environment.id: None: the backend 'gymnasium' needs an id"),
        ("environment={id: 'os:CartPole-v1'}", "environment.id: names a module to import"),
        ("environment={type: isaac}", "pip install"),
        ("environment={type: gymnasim, id: x}", "Did you mean 'gymnasium'"),
        ("connectors=[{type: huggingface}]", "connectors[0].repository_id: is needed"),
        ("connectors=[{type: huggingface, repository_id: a/b, retry: {attempts: 0}}]", "must be at least 1"),
        ("connectors=[{type: huggingface, repository_id: a/b, n_eval_episodes: -1}]", "connectors[0].n_eval_episodes"),
        ("training.total_timesteps=true", "training.total_timesteps: must be an integer, and is True"),
        ("training.total_timesteps=.inf", "training.total_timesteps: must be an integer"),
        ("training=null", "training: must be a mapping"),
        ("name=3", "name: must be a text"),
    ],
)
def test_wrong_values_are_refused(override: str, said: str) -> None:
    assert said in changed(override)


def test_numbers_are_taken_as_they_are_meant() -> None:
    config = load_config(BASIC, ["training.total_timesteps=1e6", "agent.parameters={n_steps: 1e3, gamma: 1}"])
    assert config.training.total_timesteps == 1_000_000
    assert config.agent is not None
    parameters = config.agent.given()["parameters"]
    assert type(parameters["n_steps"]) is int
    assert type(parameters["gamma"]) is float


def test_the_agents_of_all_libraries_are_known_by_their_algorithm() -> None:
    assert agent_section("PPO") == {"type": "stable_baselines", "algorithm": "ppo"}
    assert agent_section("bc") == {"type": "imitation", "algorithm": "bc"}
    assert agent_section("cql") == {"type": "offline", "algorithm": "cql"}
    assert agent_section("q_learning") == {"type": "custom", "algorithm": "q_learning"}
    assert agent_section("ppo+ppo") == {"type": "composed", "parts": [{"type": "ppo"}, {"type": "ppo"}]}
    with pytest.raises(UnknownNameError, match="Did you mean 'dagger'"):
        agent_section("daggr")
    with pytest.raises(UnknownNameError, match="Did you mean 'ppo'"):
        agent_section("pppo+ppo")


def test_composed_and_multi_agents_are_made_of_sections() -> None:
    composed = {"type": "composed", "parts": ["ppo"], "networks": {"type": "mlp", "hidden_sizes": [8]}}
    agent = Experiment.from_config({**BASIC, "agent": composed}).build().agent
    assert [type(part).__name__ for part in agent.parts] == ["PPO"]
    groups = {"hunter": {"algorithm": "ppo", "parameters": {"n_steps": 64}}, "prey": {"algorithm": "dqn"}}
    experiment = Experiment.from_config({**BASIC, "agent": {"type": "multi", "groups": groups}})
    assert experiment.build().agent["hunter"].algorithm_parameters == {"n_steps": 64}
    data = experiment.config.to_data()
    assert data["agent"]["groups"]["prey"] == {"type": "stable_baselines", "algorithm": "dqn"}
    assert load_config(data).to_data() == data


def test_the_device_goes_to_the_agent(caplog: pytest.LogCaptureFixture) -> None:
    def built(agent: dict[str, Any], device: str = "cpu") -> Any:
        return Experiment.from_config({**BASIC, "agent": agent, "device": device}).build().agent

    assert built({"algorithm": "ppo"}).algorithm_parameters == {"device": "cpu"}
    assert built({"algorithm": "ppo"}, "auto").algorithm_parameters == {}
    assert built({"type": "composed", "parts": ["ppo"]}).device.type == "cpu"
    groups = built({"type": "multi", "groups": {"a": {"algorithm": "dqn"}}})
    assert groups["a"].algorithm_parameters == {"device": "cpu"}
    assert caplog.text == ""
    assert built({"algorithm": "q_learning"}).algorithm_parameters == {}
    assert "custom has no parameter device" in caplog.text
    with pytest.raises(ArgumentError, match="device='cuda:77': torch sees"):
        built({"algorithm": "ppo"}, "cuda:77")


# What other packages add


@dataclass(frozen=True)
class Shelf:
    """Where things stand.

    Attributes:
        row: Which one,
            from the left.
        height: In metres.
    """

    row: int
    height: float = 1.5

    def __post_init__(self) -> None:
        if self.row > 9:
            raise ArgumentError("row", self.row, "there are nine rows")


class Library(Connector):
    """Keeps everything on a shelf.

    Args:
        upload_config: The shelf.
        reader: Who may read.
        api_key: For the door.
        labels: By language.
        directory: A folder.
    """

    def __init__(
        self,
        upload_config: Shelf,
        reader: str | Sequence[str] = "all",
        api_key: str | None = None,
        labels: Mapping[str, str] | None = None,
        directory: str | Path | None = None,
        door: Connector | None = None,
    ) -> None:
        self.given = (upload_config, reader, api_key, labels, directory)

    def log_metrics(self, metrics: Mapping[str, float], timestep: int, time: float) -> None: ...


@pytest.fixture
def _library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry.connectors, "_entries", dict(registry.connectors._entries))
    registry.register_connector("library", Library)


@pytest.mark.usefixtures("_library")
def test_a_connector_of_another_package_has_the_keys_of_its_constructor(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = {"type": "Library", "row": 3, "reader": ["a", "b"], "api_key": "${DOOR_KEY}", "labels": {"en": "x"}}
    config = load_config({**BASIC, "connectors": [entry, {"type": "library", "row": 9.0}]})
    assert config.to_data()["connectors"] == [{**entry, "type": "library"}, {"type": "library", "row": 9}]
    with pytest.raises(ConfigurationError, match="api_key: the variable DOOR_KEY is not set"):
        make_connector(config.connectors[0], Path("run"))
    monkeypatch.setenv("DOOR_KEY", HIDDEN)
    connector = make_connector(config.connectors[0], Path("run"))
    assert connector.given == (Shelf(3), ["a", "b"], HIDDEN, {"en": "x"}, "run/library")
    assert HIDDEN not in str(config)

    bad = {**BASIC, "connectors": [{"type": "library", "row": 10}, {"type": "library", "reader": 3, "door": 1}]}
    text = refusal(bad)
    assert "connectors[0].row: 10: there are nine rows" in text
    assert "connectors[1].reader: must be a text or a list" in text
    assert "connectors[1].door: there is no such key" in text
    assert "connectors[1].row: is needed" in text


def test_what_a_class_of_another_package_raises_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Moody(Library):
        def __init__(self, upload_config: Shelf) -> None: ...

    @dataclass
    class Odd:
        row: int

        def __post_init__(self) -> None:
            raise TypeError("not today")

    Moody.__init__.__annotations__["upload_config"] = Odd
    monkeypatch.setattr(registry.connectors, "_entries", dict(registry.connectors._entries))
    registry.register_connector("moody", Moody)
    text = refusal({**BASIC, "connectors": [{"type": "moody", "row": 1}]})
    assert text == "connectors[0]: Moody refuses it: not today"


@pytest.mark.usefixtures("_library")
def test_the_schema_has_what_other_packages_add() -> None:
    schema = role_schema(CONNECTOR, {})
    (entry,) = [one for one in schema["oneOf"] if one["properties"]["type"]["enum"] == ["library"]]
    assert entry["properties"]["row"]["description"] == "Which one, from the left."
    assert entry["properties"]["height"]["default"] == 1.5
    assert set(entry["required"]) == {"type", "row"}
    assert "door" not in entry["properties"]


def test_an_adapter_of_another_package_is_an_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    class Corridor(EnvironmentAdapter):
        @classmethod
        def accepts(cls, source: object) -> bool:
            return False

        def setup(self, source: Any, length: int = 3) -> None:  # type: ignore[override]
            raise NotImplementedError

        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            raise NotImplementedError

        def step(self, action: Any) -> Any:
            raise NotImplementedError

    monkeypatch.setattr(
        registry.environment_adapters, "_entries", dict(registry.environment_adapters._entries), raising=True
    )
    registry.register_environment_adapter("corridor", Corridor)
    config = load_config({**BASIC, "environment": {"type": "corridor", "arguments": {"length": 5}}})
    assert config.environment is not None
    assert "does not take them" in changed("environment={type: corridor, arguments: {lngth: 5}}")


# Secrets


def test_secrets_are_variables_and_variables_are_secrets(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        text = changed(
            f"connectors=[{{type: huggingface, repository_id: a/b, token: {HIDDEN}}}]",
            "run_directory=${HOME}/runs",
            f"environment.arguments={{password: {HIDDEN}, size: '${{SIZE}}'}}",
        )
    assert "connectors[0].token: is a secret, which is kept out of configurations: write ${TOKEN}" in text
    assert "run_directory: environment variables are read where a secret is taken" in text
    assert "environment.arguments.password: is a secret" in text
    assert "environment.arguments.size: environment variables are read" in text
    assert HIDDEN not in text + caplog.text
    text = changed("connectors=[{type: huggingface, repository_id: a/b, token: 'x${HF_TOKEN}'}]")
    assert "is a secret" in text
    text = changed("connectors=[{type: huggingface, repository_id: a/b, token: 31415926}]")
    assert "connectors[0].token: must be a text" in text
    assert "31415926" not in text
