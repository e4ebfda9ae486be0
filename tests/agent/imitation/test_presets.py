"""Parameters that others have tuned: they fit the agent, name their source, and cannot be spoilt by who uses them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from rl_framework.agent.imitation.presets import tuned_parameters, tuned_preset, tuned_presets
from rl_framework.episode import Episode, EpisodeSequence
from rl_framework.errors import UnknownNameError


@pytest.mark.parametrize(
    ("algorithm", "environment"), tuned_presets(), ids=["-".join(names).replace("/", "-") for names in tuned_presets()]
)
def test_the_agent_takes_every_preset(algorithm: str, environment: str) -> None:
    pytest.importorskip("imitation")
    from rl_framework.agent.imitation import ImitationAgent

    preset = tuned_preset(algorithm, environment)
    agent = ImitationAgent(algorithm, preset.algorithm_parameters)
    assert agent.describe()["algorithm"] == algorithm
    assert preset.source.startswith("HumanCompatibleAI/imitation v1.0.1")


def test_a_preset_trains_a_policy_that_normalises_its_observations() -> None:
    pytest.importorskip("imitation")
    from rl_framework.agent.imitation import ImitationAgent

    generator = np.random.default_rng(0)
    box = spaces.Box(-np.inf, np.inf, (12,), np.float64), spaces.Box(-1, 1, (3,), np.float32)
    observations, actions = generator.normal(5.0, 1.0, (129, 12)), generator.uniform(-1, 1, (128, 3)).astype(np.float32)
    episode = Episode(observations, actions, np.zeros(128), terminated=False, truncated=True)
    agent = ImitationAgent("bc", tuned_parameters("bc", "seals/Hopper-v1"))
    agent.train(EpisodeSequence.from_episodes([episode], *box), total_timesteps=128, seed=0, progress_bar=False)
    policy: Any = next(iter(agent.learner.networks()))
    means = policy.features_extractor.normalize.running_mean
    assert means.numpy() == pytest.approx(observations[:-1].mean(axis=0), abs=0.01)


def test_the_study_is_covered() -> None:
    places = ["CartPole-v0", "HalfCheetah-v1", "Hopper-v1"]
    wanted = {(name, f"seals/{place}") for name in ("bc", "dagger", "gail", "airl") for place in places}
    assert wanted <= set(tuned_presets())


def test_values_are_those_of_the_source() -> None:
    parameters = tuned_parameters("gail", "seals/Hopper-v1")
    inner = parameters["gen_algo"]["algorithm_parameters"]
    assert parameters["demo_batch_size"] == 128
    assert inner["learning_rate"] == 4.3984856156897565e-05
    # The source gives the steps of a rollout over all of its 8 environments.
    assert inner["n_steps"] * tuned_preset("gail", "seals/Hopper-v1").training["n_environments"] == 4096


def test_a_preset_may_be_changed() -> None:
    tuned_parameters("gail", "seals/Hopper-v1")["gen_algo"]["algorithm_parameters"]["n_steps"] = 1
    assert tuned_parameters("gail", "seals/Hopper-v1")["gen_algo"]["algorithm_parameters"]["n_steps"] == 512


def test_timesteps_are_counted_as_training_counts_them() -> None:
    assert tuned_preset("bc", "seals/Hopper-v1").total_timesteps(104_000) == 20 * 104_000
    assert tuned_preset("bc", "seals/CartPole-v0").total_timesteps(104_000) == 50_000 * 32
    assert tuned_preset("gail", "seals/Hopper-v1").total_timesteps(104_000) == 10_000_000


def test_unknown_names_are_answered_with_what_there_is() -> None:
    with pytest.raises(UnknownNameError, match="gail"):
        tuned_preset("gial", "seals/Hopper-v1")
    with pytest.raises(UnknownNameError, match="seals/Hopper-v1"):
        tuned_preset("gail", "Hopper-v1")
