"""What stands between `OfflineAgent` and d3rlpy gives the library what the library would have made of the data."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import torch
from gymnasium import spaces
from tests.agent.imitation.offline_samples import (
    BATCH,
    BOX,
    DISCRETE,
    VECTOR,
    action_space_of,
    recorded,
    small,
    trained,
)

from rl_framework import Episode, EpisodeSequence, load_agent
from rl_framework.agent.imitation.offline_library.acting import Memory
from rl_framework.agent.imitation.offline_library.scalers import fit_scalers
from rl_framework.errors import ArgumentError

SCALED = {"observation_scaler": "standard", "reward_scaler": {"type": "standard", "multiplier": 2.0}}


def librarys_episodes(episodes, discrete):
    from d3rlpy.dataset import Episode as LibraryEpisode

    return [
        LibraryEpisode(
            # The library has no place for the last observation; it does not use the step that leads there.
            episode.observations[:-1],
            episode.actions.reshape(len(episode), -1).astype(np.int64 if discrete else np.float32),
            episode.rewards.reshape(-1, 1).astype(np.float32),
            episode.terminated,
        )
        for episode in episodes
    ]


def usable_rows(episodes):
    """Places of the transitions that d3rlpy has: without the last one of an episode that was cut."""
    starts = np.cumsum(episodes.lengths) - episodes.lengths
    return [
        (number, step, int(start) + step)
        for number, (start, episode) in enumerate(zip(starts, episodes, strict=True))
        for step in range(len(episode) - (not episode.terminated))
    ]


@pytest.mark.parametrize("name", ["dqn", "cal_ql", "rebrac"])
def test_a_batch_is_what_the_library_would_make_of_these_transitions(name):
    from d3rlpy.dataset import BasicTransitionPicker, TransitionMiniBatch
    from d3rlpy.torch_utility import TorchMiniBatch

    discrete = name == "dqn"
    episodes = recorded(action_space_of(name))
    agent = trained(name, episodes, 1, parameters=small(name, **SCALED))
    algorithm, theirs, picker = agent.algorithm, librarys_episodes(episodes, discrete), BasicTransitionPicker()
    rows = usable_rows(episodes)[::3]
    picked = [picker(theirs[number], step) for number, step, _ in rows]
    expected = TorchMiniBatch.from_batch(
        TransitionMiniBatch.from_transitions(picked),
        algorithm.gamma,
        algorithm.need_returns_to_go,
        "cpu:0",
        algorithm.observation_scaler,
        algorithm.action_scaler,
        algorithm.reward_scaler,
    )
    batch = agent.learner._batches.at(np.array([place for _, _, place in rows]))
    going_on = expected.terminals.bool().logical_not().squeeze(1)
    for field in ("observations", "actions", "rewards", "terminals", "intervals", "returns_to_go"):
        torch.testing.assert_close(getattr(batch, field), getattr(expected, field))
    # After a terminal state the library has zeros, which nothing is made of.
    torch.testing.assert_close(batch.next_observations[going_on], expected.next_observations[going_on])
    if name == "rebrac":
        torch.testing.assert_close(batch.next_actions[going_on], expected.next_actions[going_on])


@pytest.mark.parametrize("name", ["decision_transformer", "discrete_decision_transformer"])
def test_a_stretch_is_what_the_library_would_make_of_it(name):
    from d3rlpy.dataset import BasicTrajectorySlicer, TrajectoryMiniBatch
    from d3rlpy.torch_utility import TorchTrajectoryMiniBatch

    discrete = name.startswith("discrete")
    episodes = recorded(action_space_of(name))
    agent = trained(name, episodes, 1, parameters=small(name, **SCALED))
    algorithm, theirs, slicer = agent.algorithm, librarys_episodes(episodes, discrete), BasicTrajectorySlicer()
    rows = usable_rows(episodes)[::2]
    expected = TorchTrajectoryMiniBatch.from_batch(
        TrajectoryMiniBatch.from_partial_trajectories(
            [slicer(theirs[number], step, algorithm.config.context_size) for number, step, _ in rows]
        ),
        "cpu:0",
        algorithm.observation_scaler,
        algorithm.action_scaler,
        algorithm.reward_scaler,
    )
    batch = agent.learner._batches.at(np.array([place for _, _, place in rows]))
    for field in ("observations", "actions", "rewards", "returns_to_go", "terminals", "timesteps", "masks"):
        torch.testing.assert_close(getattr(batch, field), getattr(expected, field))


def test_an_update_is_the_librarys_own():
    """The same transitions, networks and random numbers give the same weights."""
    from d3rlpy.dataset import BasicTransitionPicker, TransitionMiniBatch

    episodes = recorded(BOX)
    ours, theirs = trained("iql", episodes, 1), trained("iql", episodes, 1)
    rows = usable_rows(episodes)[:BATCH]
    ours.algorithm.impl.update(ours.learner._batches.at(np.array([place for _, _, place in rows])), 1)
    picker, recorded_there = BasicTransitionPicker(), librarys_episodes(episodes, discrete=False)
    picked = [picker(recorded_there[number], step) for number, step, _ in rows]
    theirs.algorithm.update(TransitionMiniBatch.from_transitions(picked))
    for one, other in zip(ours.learner.networks(), theirs.learner.networks(), strict=True):
        for name, tensor in one.state_dict().items():
            assert torch.equal(tensor, other.state_dict()[name])


def test_transitions_without_a_next_action_are_drawn_only_where_none_is_looked_at():
    episodes = recorded(BOX, count=2, length=3)  # the second one is cut
    last = int(episodes.n_transitions) - 1
    for name, expected in (("td3", True), ("rebrac", False)):
        batches = trained(name, episodes, 1).learner._batches
        seen = []
        batches.at = seen.append
        for number in range(20):
            batches.draw(number, BATCH)
        assert (last in np.concatenate(seen)) is expected


def test_the_batches_are_a_function_of_seed_and_number():
    one, same, other = (trained("td3", updates=1, seed=seed).learner._batches for seed in (0, 0, 1))
    assert torch.equal(one.draw(7, 5).observations, same.draw(7, 5).observations)
    assert not torch.equal(one.draw(7, 5).observations, one.draw(8, 5).observations)
    assert not torch.equal(one.draw(7, 5).observations, other.draw(7, 5).observations)


def test_statistics_are_the_librarys():
    from d3rlpy import preprocessing
    from d3rlpy.algos import IQLConfig
    from d3rlpy.dataset import BasicTransitionPicker

    episodes = recorded(BOX).filter(predicate=lambda episode: episode.terminated)  # what d3rlpy has whole
    theirs = librarys_episodes(episodes, discrete=False)
    learner = trained("iql", episodes, 1).learner
    for kinds in (
        ("StandardObservationScaler", "MinMaxActionScaler", "StandardRewardScaler"),
        ("MinMaxObservationScaler", "MinMaxActionScaler", "MinMaxRewardScaler"),
        ("MinMaxObservationScaler", "MinMaxActionScaler", "ReturnBasedRewardScaler"),
    ):
        names = ("observation_scaler", "action_scaler", "reward_scaler")
        mine, own = (
            {name: getattr(preprocessing, kind)() for name, kind in zip(names, kinds, strict=True)} for _ in "ab"
        )
        fit_scalers(IQLConfig(**mine), episodes, learner.observation_form, learner.action_form)
        for name in names:
            own[name].fit_with_transition_picker(theirs, BasicTransitionPicker())
            for field, value in vars(own[name]).items():
                if not field.startswith("_"):
                    assert getattr(mine[name], field) == pytest.approx(value, rel=1e-6), (name, field)


def test_what_never_changes_is_not_divided_by_zero():
    episodes = recorded(BOX, spaces.Box(1.0, 1.0, (2,), np.float32))
    agent = trained("iql", episodes, 3, parameters=small("iql", observation_scaler="min_max"))
    assert np.isfinite(agent.choose_action(np.ones((1, 2), np.float32))).all()


def test_prdc_objects_do_not_share_their_search():
    one, other = trained("prdc", recorded(BOX, seed=1), 1), trained("prdc", recorded(BOX, seed=2), 1)
    searches = [agent.algorithm.impl._nbsr for agent in (one, other)]
    assert not np.array_equal(searches[0]._fit_X[:5], searches[1]._fit_X[:5])
    assert searches[0]._fit_X.shape == (recorded(BOX, seed=1).n_transitions, 4 + 2)


# Transformers


@pytest.mark.parametrize("space", [BOX, DISCRETE], ids=["box", "discrete"])
def test_a_transformer_acts_as_the_librarys_wrapper_does(space):
    """Where every step brings what the agent reckons with."""
    from d3rlpy.algos import GreedyTransformerActionSampler

    episodes = EpisodeSequence.from_episodes(
        [Episode(e.observations, e.actions, np.ones(len(e)), True, False) for e in recorded(space)], VECTOR, space
    )
    parameters = small("discrete_decision_transformer" if space is DISCRETE else "decision_transformer")
    agent = trained("decision_transformer", episodes, 20, parameters={**parameters, "target_return": 30.0})
    sampler = GreedyTransformerActionSampler() if space is DISCRETE else None
    wrapper = agent.algorithm.as_stateful_wrapper(30.0, sampler)
    observations, state = np.random.default_rng(1).normal(size=(9, 4)).astype(np.float32), None
    for step, observation in enumerate(observations):
        action, state = agent.choose_action(observation, state=state)
        expected = wrapper.predict(observation, 0.0 if step == 0 else 1.0)
        assert action == pytest.approx(expected, abs=1e-5)


def test_slots_remember_their_own_episodes():
    agent = trained("decision_transformer")
    observations = np.random.default_rng(1).normal(size=(6, 2, 4)).astype(np.float32)
    state, alone = None, None
    for step in range(6):
        starts = np.array([step == 0, step in (0, 3)])
        actions, state = agent.predict(observations[step], state, starts)
        if step == 3:
            alone = None
        single, alone = agent.predict(observations[step, 1:], alone, np.array([step in (0, 3)]))
        assert actions[1] == pytest.approx(single[0], abs=1e-5)
    assert isinstance(state, Memory)
    assert state.steps.tolist() == [6, 3]


def test_a_transformer_aims_at_the_best_of_the_data_or_at_what_is_asked(tmp_path):
    episodes = recorded(BOX)
    agent = trained("decision_transformer", episodes)
    assert agent.learner._target_return == pytest.approx(episodes.returns.max())
    path = agent.save_to_file(tmp_path / "agent.zip")
    observations = np.zeros((1, 4), np.float32)
    higher = load_agent(path, {"target_return": 100.0})
    assert not np.array_equal(higher.choose_action(observations), agent.choose_action(observations))


def test_episodes_that_are_longer_than_a_transformer_counts_are_refused():
    with pytest.raises(ArgumentError, match="the longest episode has 24 steps"):
        trained("decision_transformer", parameters=small("decision_transformer", max_timestep=10))


# The process around it


def test_memory_is_bounded_by_the_batch(tmp_path):
    space = spaces.Box(-np.inf, np.inf, (500,), np.float32)
    rng = np.random.default_rng(0)
    wide = [
        Episode(
            rng.normal(size=(501, 500)).astype(np.float32), np.zeros((500, 2), np.float32), np.ones(500), True, False
        )
        for _ in range(60)
    ]
    EpisodeSequence.from_episodes(wide, space, BOX).save(tmp_path / "wide")
    del wide
    episodes = EpisodeSequence.load(tmp_path / "wide")
    parameters = small("td3_plus_bc", observation_scaler="standard")
    trained("td3_plus_bc", episodes, 2, parameters=parameters)
    tracemalloc.start()
    try:
        trained("td3_plus_bc", episodes, 20, parameters=parameters)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 24e6, peak  # the observations have 60 MB


SILENT = """
import structlog, torch
structlog.configure(processors=[])
before = structlog.get_config()["processors"], torch.get_float32_matmul_precision()
from rl_framework import OfflineAgent
import sys
assert "d3rlpy" not in sys.modules
OfflineAgent("dqn")
assert "d3rlpy" in sys.modules
assert (structlog.get_config()["processors"], torch.get_float32_matmul_precision()) == before
"""


def test_the_library_is_imported_late_and_without_a_trace():
    finished = subprocess.run([sys.executable, "-c", SILENT], capture_output=True, text=True, check=False)
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "", "")
