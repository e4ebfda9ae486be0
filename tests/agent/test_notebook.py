"""What a notebook shows of an agent."""

from __future__ import annotations

import html
import re
from typing import Any

import numpy as np
import pytest
import torch
from tests.agent.imitation.offline_samples import ENCODER, recorded
from tests.agent.multi_agent.samples import unlike
from tests.agent.samples import SMALL, Sampled, trained

from rl_framework import (
    ComposedAgent,
    CustomAgent,
    CustomAlgorithm,
    FeaturesExtractor,
    ImitationAgent,
    MultiAgent,
    OfflineAgent,
    StableBaselinesAgent,
    load_agent,
)
from rl_framework.agent.notebook import constructor_defaults
from rl_framework.agent.reinforcement.parts import PPO, RND
from rl_framework.secrecy import HIDDEN, remember_secret


def title(agent: Any) -> str:
    found = re.search(r"<caption[^>]*>(.*?)</caption>", agent._repr_html_())
    assert found is not None
    return html.unescape(found[1])


def rows(agent: Any) -> dict[str, str]:
    found = re.findall(r"<th[^>]*>(.*?)</th><td[^>]*>(.*?)</td>", agent._repr_html_())
    return {html.unescape(name): html.unescape(value.replace("<br/>", "\n")) for name, value in found}


def n_weights(*networks: torch.nn.Module) -> str:
    return f"{sum(parameter.numel() for network in networks for parameter in network.parameters()):,}"


class Extractor(FeaturesExtractor):
    def build(self, observation_space: Any) -> Any: ...


def test_an_agent_before_training() -> None:
    agent = StableBaselinesAgent("ppo", {"n_steps": 64, "gamma": 0.99}, normalize_rewards=True)
    assert title(agent) == "StableBaselinesAgent"
    assert rows(agent) == {
        "algorithm": "PPO",
        "parameters": "n_steps = 64\nnormalize_rewards = True",  # 0.99 is what gamma is anyway
        "trained for": "nothing so far",
    }
    assert rows(StableBaselinesAgent("sac"))["parameters"] == "the defaults"


def test_parameters_are_written_as_in_a_configuration() -> None:
    schedule = {"type": "linear", "start": 1e-3, "end": 0.0}
    agent = StableBaselinesAgent("ppo", {"learning_rate": schedule, "policy_kwargs": {"activation_fn": torch.nn.ReLU}})
    assert rows(agent)["parameters"].split("\n") == [
        "learning_rate = {type: linear, start: 0.001, end: 0.0}",
        "policy_kwargs = {activation_fn: ReLU}",
    ]
    shown = rows(StableBaselinesAgent("ppo", features_extractor=Extractor(), normalize_observations=True))
    assert shown["parameters"] == "features_extractor = Extractor\nnormalize_observations = True"
    long = rows(StableBaselinesAgent("ppo", {"policy_kwargs": {"net_arch": [64] * 1_000}}))["parameters"]
    assert len(long) < 200
    assert long.endswith("…")


def test_an_agent_after_training_and_from_its_file(tmp_path: Any) -> None:
    agent = trained(seed=7)
    agent.train("CartPole-v1", 16, n_environments=1, progress_bar=False)
    shown = rows(agent)
    assert shown["environment"] == "CartPole-v1"
    assert shown["observations"] == " ".join(repr(agent.observation_space).split())
    assert shown["actions"] == "Discrete(2)"
    assert shown["trained for"] == "64 timesteps"
    assert shown["weights"] == n_weights(agent.algorithm.policy)
    assert shown["seed"] == "7"
    first, second = shown["trainings"].split("\n")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d, CartPole-v1, 48 timesteps, seed 7", first)
    assert ", 16 timesteps, " in second
    assert rows(load_agent(agent.save_to_file(tmp_path / "agent.zip"))) == shown


def test_wrappers_are_shown() -> None:
    agent = StableBaselinesAgent("ppo", {"n_steps": 16, "batch_size": 16, "policy_kwargs": SMALL})
    wrappers = [{"type": "time_limit", "max_episode_steps": 5}]
    agent.train("CartPole-v1", 32, n_environments=2, wrappers=wrappers, progress_bar=False)
    shown = rows(agent)
    assert shown["wrappers"] == "time_limit {max_episode_steps: 5}"
    assert ", CartPole-v1 × 2, " in shown["trainings"]


def test_a_composed_agent_shows_its_parts(tmp_path: Any) -> None:
    parts = [PPO(n_steps=16, batch_size=64, n_epochs=1), RND()]
    agent = ComposedAgent(parts, learning_rate=1e-3, networks={"type": "mlp"})
    before = rows(agent)
    assert before["algorithm"] == "ppo+rnd"
    assert before["part ppo"] == "n_steps = 16\nn_epochs = 1"  # 64 is the default
    assert before["part rnd"] == "the defaults"
    assert before["parameters"] == "networks = {default: {type: mlp}}\nlearning_rate = 0.001"
    agent.train("CartPole-v1", 32, seed=0, progress_bar=False)
    assert rows(agent)["weights"] == n_weights(agent.composition)
    assert "parameters" not in rows(ComposedAgent([PPO()]))
    assert rows(load_agent(agent.save_to_file(tmp_path / "agent.zip"))) == rows(agent)


def test_a_custom_agent_shows_what_it_keeps() -> None:
    agent = CustomAgent("q_learning", {"gamma": 0.9})
    agent.train("FrozenLake-v1", 20, seed=0, progress_bar=False)
    shown = rows(agent)
    assert shown["algorithm"] == "QLearning (q_learning)"
    assert shown["parameters"] == "gamma = 0.9"
    kept = sum(np.asarray(values).size for values in agent.algorithm.get_state().values())
    assert shown["learned state"] == f"{kept} numbers"


def test_an_imitation_agent() -> None:
    agent = ImitationAgent("bc", {"batch_size": 32, "l2_weight": 0.1})
    agent.train(recorded(), total_timesteps=32, seed=0, progress_bar=False)
    shown = rows(agent)
    assert (shown["algorithm"], shown["parameters"]) == ("BC", "l2_weight = 0.1")
    assert shown["weights"] == n_weights(*agent.learner.networks())
    assert "environment" not in shown
    assert rows(ImitationAgent("gail"))["trained for"] == "nothing so far"


def test_an_offline_agent() -> None:
    agent = OfflineAgent("cql", {"batch_size": 16, "gamma": 0.99, "encoder_factory": ENCODER})
    agent.train(recorded(), total_timesteps=32, seed=0, progress_bar=False)
    shown = rows(agent)
    assert shown["parameters"].split("\n")[0] == "batch_size = 16"
    assert "gamma" not in shown["parameters"]
    assert shown["weights"] == n_weights(*agent.learner.networks())


def test_several_agents_show_each_group() -> None:
    parameters = {"n_steps": 8, "batch_size": 16, "policy_kwargs": SMALL}
    groups = {name: StableBaselinesAgent("ppo", parameters) for name in ("left", "right")}
    agent = MultiAgent(groups)
    assert title(agent) == "MultiAgent"
    agent.train(unlike, 16, n_environments=2, seed=0, progress_bar=False)
    shown = rows(agent)
    left = shown["group left"].split("\n")
    assert left[0] == f"StableBaselinesAgent, {groups['left'].num_timesteps} timesteps"
    assert left[1:3] == ["algorithm: PPO", "parameters: n_steps = 8, batch_size = 16, policy_kwargs = {net_arch: [8]}"]
    assert f"weights: {n_weights(groups['right'].algorithm.policy)}" in shown["group right"]
    assert shown["trained for"] == f"{agent.num_timesteps} timesteps"
    assert "StableBaselinesAgent, frozen" in rows(MultiAgent(groups, frozen=["right"]))["group right"]


class Nameless(CustomAlgorithm):
    def __init__(self, observation_space: Any, action_space: Any, greed: object = None) -> None:
        super().__init__(observation_space, action_space)

    def choose_actions(self, observations: Any, deterministic: bool) -> Any:
        return self.np_random.integers(2, size=len(observations))

    def learn_from(self, transitions: Any) -> None: ...

    def get_state(self) -> dict[str, Any]:
        return {}

    def set_state(self, state: dict[str, Any]) -> None: ...


def test_what_cannot_be_saved_can_be_shown() -> None:
    shown = rows(CustomAgent(Nameless, {"greed": lambda: 1}))
    assert shown["algorithm"] == "Nameless"
    assert shown["parameters"] == "greed = <lambda>"


def test_names_from_elsewhere_are_text_and_secrets_are_hidden() -> None:
    hostile = "<script>alert(1)</script>"
    remember_secret("not-for-others")
    agent = trained()
    agent.environment_id = hostile
    agent._wrappers = ({"type": hostile, "note": "not-for-others"},)
    agent._runs = ({"environment": hostile, "started": hostile, "seed": hostile, "total_timesteps": [hostile] * 99},)
    page = agent._repr_html_()
    assert "<script" not in page
    assert "not-for-others" not in page
    shown = rows(agent)
    assert shown["environment"] == hostile
    assert shown["wrappers"] == f"{hostile} {{note: {HIDDEN}}}"
    assert shown["trainings"].startswith(hostile)


@pytest.mark.parametrize("runs", [({},), ({"environment": {}, "seed": None, "started": 3},)], ids=["empty", "odd"])
def test_records_that_say_little_are_shown_as_they_are(runs: Any) -> None:
    agent = trained()
    agent._runs = runs
    assert "trainings" in rows(agent)


def test_of_many_trainings_the_last_are_shown() -> None:
    agent = trained()
    agent._runs = tuple({"total_timesteps": number} for number in range(9))
    assert rows(agent)["trainings"].split("\n") == ["and 4 before", *(f"{number} timesteps" for number in range(4, 9))]


def test_to_be_shown_changes_nothing() -> None:
    agent, environment = StableBaselinesAgent("dqn", {"buffer_size": 100}), Sampled()
    agent._repr_html_()
    agent.train(environment, 4, seed=0, progress_bar=False)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    steps = environment.steps
    agent._repr_html_()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert environment.steps == steps


def test_defaults_of_a_constructor_that_hands_keywords_on() -> None:
    class Base:
        def __init__(self, one: int = 1, two: int = 2) -> None: ...

    class Handing(Base):
        def __init__(self, needed: int, one: int = 11, **keywords: Any) -> None: ...

    class Keeping(Base):
        def __init__(self, needed: int, three: int = 3) -> None: ...

    assert constructor_defaults(Handing) == {"one": 11, "two": 2}
    assert constructor_defaults(Keeping) == {"three": 3}
