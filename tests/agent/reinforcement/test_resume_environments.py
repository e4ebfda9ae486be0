"""Every algorithm, in environments of every kind, resumed to the last bit."""

from dataclasses import replace
from importlib.util import find_spec

import pytest
from tests.agent.reinforcement.resume_cases import Case, check_exact, make_flips, make_masked

DISCRETE = ("a2c", "ars", "dqn", "ppo", "qrdqn", "recurrent_ppo", "trpo")
CONTINUOUS = ("a2c", "ars", "crossq", "ddpg", "ppo", "recurrent_ppo", "sac", "td3", "tqc", "trpo")
MUJOCO = pytest.mark.skipif(not all(map(find_spec, ("mujoco", "imageio"))), reason="gymnasium[mujoco] is not installed")


def cases():
    for environment, algorithms, marks in (
        ("CartPole-v1", DISCRETE, ()),
        ("LunarLander-v3", DISCRETE, ()),
        ("Pendulum-v1", CONTINUOUS, ()),
        ("MountainCarContinuous-v0", CONTINUOUS, ()),
        ("Hopper-v5", CONTINUOUS, (MUJOCO,)),
    ):
        for algorithm in algorithms:
            yield pytest.param(algorithm, environment, id=f"{algorithm} {environment}", marks=marks)
    yield pytest.param("maskable_ppo", make_masked, id="maskable_ppo")
    yield pytest.param("dqn", make_flips, id="dqn with dict observations")


def case_for(algorithm, environment):
    total, every = (6000, 1300) if algorithm == "ars" else (400, 90)
    two = {} if algorithm == "ars" else {"n_environments": 2}
    parameters = {"policy": "MultiInputPolicy"} if environment is make_flips else {}
    return Case(algorithm, environment, parameters, arguments=two, total=total, every=every)


@pytest.mark.slow
@pytest.mark.parametrize(("algorithm", "environment"), cases())
def test_every_algorithm_is_exact_everywhere(algorithm, environment, tmp_path, caplog):
    check_exact(case_for(algorithm, environment), tmp_path)
    assert "replayed" not in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("vectorization", ["sync", "subprocess"])
@pytest.mark.parametrize("algorithm", CONTINUOUS)
def test_bipedal_walker_is_exact_with_an_environment_for_each_episode(algorithm, vectorization, tmp_path, caplog):
    case = case_for(algorithm, "BipedalWalker-v3")
    case = replace(case, arguments={**case.arguments, "vectorization": vectorization, "fresh_environments": True})
    check_exact(case, tmp_path)
    assert "replayed" not in caplog.text
