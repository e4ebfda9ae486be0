"""Seeds: where they are given, what they fix, and what must not disturb them."""

import random

import gymnasium
import numpy as np
import pytest
import torch
from tests.agent.samples import ENVIRONMENTS, PARAMETERS, Sampled, make, same, train, trained, weights

from rl_framework import PeriodicEvaluation
from rl_framework.errors import ArgumentError, SeedConflictError
from rl_framework.training import Callback

STEPS = 80


class Records(Callback):
    def on_training_start(self, event, training):
        self.record = event.record


class Counts(Callback):
    def __init__(self):
        self.evaluations = self.checkpoints = 0

    def on_evaluation(self, event, training):
        self.evaluations += 1

    def on_checkpoint(self, event, training):
        self.checkpoints += 1
        assert event.path.exists()


@pytest.mark.parametrize("algorithm", PARAMETERS)
def test_the_same_seed_gives_the_same_weights_and_another_gives_others(algorithm):
    one, again, other = (weights(trained(algorithm, seed=seed)) for seed in (5, 5, 6))
    assert same(one, again)
    assert not same(one, other)


def test_the_global_generators_do_not_matter():
    one = weights(trained("sac", seed=5))
    random.random(), np.random.random(), torch.rand(3)
    assert same(weights(trained("sac", seed=5)), one)


def test_a_seed_among_the_parameters_is_the_same_seed():
    agent = trained("dqn", {"seed": 5}, seed=None)
    assert agent.seed == 5
    assert same(weights(agent), weights(trained("dqn", seed=5)))
    assert same(weights(agent), weights(trained("dqn", {"seed": 5}, seed=5)))


def test_two_seeds_that_disagree_are_refused():
    environment = Sampled()
    with pytest.raises(SeedConflictError, match=r"algorithm_parameters\['seed'\] is 5"):
        train(make("ppo", {"seed": 5}), environment, seed=6)
    assert environment.resets == 0


def test_zero_is_a_seed():
    with pytest.raises(SeedConflictError):
        train(make("ppo", {"seed": 0}), Sampled, seed=1)
    with pytest.raises(SeedConflictError):
        train(make("ppo", {"seed": 1}), Sampled, seed=0)
    assert train(make("ppo", {"seed": 0}), Sampled).seed == 0


@pytest.mark.parametrize("seed", [-1, 1.5, "7", True, 1 << 32])
def test_what_is_no_seed_is_refused(seed):
    with pytest.raises(ArgumentError, match="seed"):
        train(make(), seed=seed)
    with pytest.raises(ArgumentError, match="seed"):
        make("ppo", {"seed": seed})


@pytest.mark.parametrize("algorithm", ["ppo", "dqn", "sac"])
def test_without_a_seed_one_is_drawn_and_recorded(algorithm):
    records = Records()
    agent = train(make(algorithm), ENVIRONMENTS[algorithm], callbacks=[records])
    assert records.record["seed"] == agent.seed is not None
    assert same(weights(trained(algorithm, seed=agent.seed)), weights(agent))
    assert trained(seed=None).seed != trained(seed=None).seed


# What watches a run does not change it


@pytest.mark.parametrize(
    ("algorithm", "parameters", "normalize"),
    [
        ("ppo", {}, False),
        ("ppo", {"use_sde": True, "sde_sample_freq": 4}, True),
        ("sac", {}, True),
        ("sac", {"use_sde": True}, False),
        ("td3", {"action_noise": {"type": "ornstein_uhlenbeck", "sigma": 0.3}}, False),
        ("dqn", {"exploration_fraction": 1.0, "exploration_final_eps": 0.5}, False),
    ],
)
def test_evaluations_and_checkpoints_change_no_weight(algorithm, parameters, normalize, tmp_path):
    environment = "Pendulum-v1" if "use_sde" in parameters else ENVIRONMENTS[algorithm]

    def run(**arguments):
        agent = make(algorithm, parameters, normalize_observations=normalize, normalize_rewards=normalize)
        return train(agent, environment, STEPS, n_environments=2, seed=9, **arguments)

    counts = Counts()
    watched = run(
        callbacks=[counts, PeriodicEvaluation(environment, every=13, n_eval_episodes=2, deterministic=False)],
        evaluate_every=31,
        n_eval_episodes=3,
        checkpoint_every=25,
        checkpoint_directory=tmp_path / "checkpoints",
    )
    alone = run()
    assert same(weights(watched), weights(alone))
    assert counts.evaluations >= 7
    assert counts.checkpoints >= (1 if algorithm == "ppo" else 3)  # between rollouts, which are long for PPO
    if normalize:
        assert watched.normaliser.to_arrays().keys() == alone.normaliser.to_arrays().keys()
        assert same(watched.normaliser.to_arrays(), alone.normaliser.to_arrays())


def test_evaluation_makes_its_own_environments_even_if_they_draw_from_the_global_generators():
    def factory():
        np.random.random(3)
        return gymnasium.make("CartPole-v1")

    def run(**arguments):
        return weights(train(make("dqn"), factory, STEPS, seed=9, **arguments))

    assert same(run(evaluate_every=10, n_eval_episodes=1), run())


def test_evaluation_does_not_disturb_the_training_environments():
    environment = Sampled()
    with pytest.raises(ArgumentError, match="evaluation_environment="):
        train(make(), environment, evaluate_every=10)
    for shared in (environment, [environment]):
        for training in (environment, [environment]):
            with pytest.raises(ArgumentError, match="disturb"):
                train(make(), training, evaluate_every=10, evaluation_environment=shared)
    assert environment.resets == 0
    other = Sampled()
    train(make(), environment, evaluate_every=10, evaluation_environment=other, n_eval_episodes=1)
    assert other.episodes > 0
    assert not other.closed
    assert environment.steps == 48


def test_the_curve_is_measured_on_the_same_episodes_each_time():
    class Seeds(Callback):
        def __init__(self):
            self.seen = set()

        def on_evaluation(self, event, training):
            self.seen.add(event.result.seed)

    seeds = Seeds()
    train(make(), evaluate_every=10, n_eval_episodes=1, callbacks=[seeds], seed=1)
    assert len(seeds.seen) == 1


@pytest.mark.parametrize("every", [0, -1, 1.5, True, "10"])
def test_periods_must_be_numbers_of_steps(every, tmp_path):
    for arguments in ({"evaluate_every": every}, {"checkpoint_every": every, "checkpoint_directory": tmp_path}):
        with pytest.raises(ArgumentError, match="every"):
            train(make(), **arguments)


def test_checkpoints_need_a_folder():
    with pytest.raises(ArgumentError, match="checkpoint_directory"):
        train(make(), checkpoint_every=10)
