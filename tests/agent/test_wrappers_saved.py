"""The wrappers that an agent was trained in are saved with it and put on wherever it acts."""

from __future__ import annotations

import json
from importlib.util import find_spec

import gymnasium
import pytest
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from tests.agent.reinforcement.resume_cases import HER, IMAGES, Case, check_exact
from tests.agent.samples import make, train

from rl_framework import (
    ArgumentError,
    BundleError,
    Callback,
    CustomAgent,
    EpisodeSequence,
    ImitationAgent,
    LocalConnector,
    MultiAgent,
    StableBaselinesAgent,
    load_agent,
    record_video,
    registry,
    reproduce,
)
from rl_framework.agent.reinforcement import ComposedAgent
from rl_framework.agent.reinforcement.parts import PPO
from rl_framework.bundle import read_bundle, write_bundle
from rl_framework.environment import standard_wrappers, wrap_environment
from rl_framework.errors import SpaceMismatchError

LIMIT = {"type": "time_limit", "max_episode_steps": 7}
WRAPPERS = [
    {"type": "sticky_actions", "repeat_action_probability": 0.3},
    {"type": "frame_stack", "stack_size": 3},
    LIMIT,
]


def installed(*modules):
    return pytest.mark.skipif(not all(map(find_spec, modules)), reason=f"{modules} are not installed")


@pytest.fixture(scope="module")
def agent():
    return train(make(), seed=0, wrappers=WRAPPERS)


@pytest.fixture
def path(agent, tmp_path):
    return agent.save_to_file(tmp_path / "agent.zip")


def test_an_agent_tells_its_wrappers_and_they_cannot_be_changed_from_outside(agent):
    assert agent.wrappers == WRAPPERS
    agent.wrappers.clear()
    agent.wrappers[0]["type"] = "atari"
    assert agent.wrappers == WRAPPERS
    assert agent.observation_space.shape == (3, 4)
    assert make().wrappers == []


def test_a_loaded_agent_acts_in_the_raw_environment(agent, path):
    loaded = load_agent(path)
    assert loaded.wrappers == WRAPPERS
    result = loaded.evaluate("CartPole-v1", 4, seed=1)
    assert result.lengths.tolist() == [7] * 4
    assert result.returns.tolist() == agent.evaluate("CartPole-v1", 4, seed=1).returns.tolist()
    raw = gymnasium.make("CartPole-v1")
    assert loaded.evaluate(raw, 2, seed=1).lengths.max() == 7
    assert make().load_from_file(path).wrappers == WRAPPERS


def test_a_loop_of_ones_own_wraps_the_environment(path):
    loaded = load_agent(path)
    raw = gymnasium.make("CartPole-v1")
    environment = loaded.wrap(raw)
    observation, _ = environment.reset(seed=0)
    steps, over = 0, False
    while not over:
        observation, _, terminated, truncated, _ = environment.step(loaded.choose_action(observation))
        steps, over = steps + 1, terminated or truncated
    assert steps == 7
    with pytest.raises(SpaceMismatchError):
        loaded.choose_action(raw.reset()[0])
    assert loaded.evaluate(environment, 2, seed=0).lengths.tolist() == [7, 7]  # not wrapped twice


@installed("imageio_ffmpeg", "pygame")
def test_videos_are_of_the_wrapped_environment(path, tmp_path):
    assert record_video(load_agent(path), "CartPole-v1", tmp_path / "film.mp4", length=10, seed=0).exists()


def test_episodes_are_collected_in_the_wrappers_of_the_agent(path):
    loaded = load_agent(path)
    episodes = EpisodeSequence.collect(loaded, "CartPole-v1", 2, seed=0)
    assert [len(episode.actions) for episode in episodes] == [7, 7]
    assert episodes.observation_space.shape == (3, 4)
    by_chance = EpisodeSequence.collect(None, "CartPole-v1", 2, seed=0, wrappers=[LIMIT])
    assert by_chance.observation_space.shape == (4,)
    assert max(len(episode.actions) for episode in by_chance) <= 7


def test_evaluations_in_between_and_the_best_model_have_them(tmp_path):
    class Lengths(Callback):
        def __init__(self):
            self.found = []

        def on_evaluation(self, event, training):
            self.found += event.result.lengths.tolist()

    lengths = Lengths()
    train(
        make(), wrappers=WRAPPERS, evaluate_every=16, n_eval_episodes=2, checkpoint_directory=tmp_path,
        callbacks=[lengths], seed=0,
    )  # fmt: skip
    assert lengths.found
    assert set(lengths.found) == {7}
    assert load_agent(tmp_path / "best_model.zip").wrappers == WRAPPERS


def test_training_goes_on_in_the_same_wrappers_unless_others_fit(agent, path):
    loaded = load_agent(path)
    train(loaded, seed=1)
    assert loaded.wrappers == WRAPPERS
    other = [{"type": "frame_stack", "stack_size": 3}]
    train(loaded, wrappers=other)
    assert loaded.wrappers == other
    with pytest.raises(SpaceMismatchError):
        train(loaded, wrappers=[])
    assert loaded.wrappers == other


def test_resuming_in_other_wrappers_is_refused(tmp_path):
    train(make(), wrappers=["time_aware", LIMIT], seed=0, checkpoint_every=20, checkpoint_directory=tmp_path)
    for wrappers in ([], [LIMIT], [LIMIT, "time_aware"]):
        with pytest.raises(ArgumentError, match=r"wrappers=\[.*the checkpoint was made in \[.*time_aware.*max_episode"):
            train(make(), wrappers=wrappers, resume_from=tmp_path)
    resumed = train(make(), wrappers=[{"type": "Time_Aware"}, LIMIT], resume_from=tmp_path)
    assert resumed.wrappers == [{"type": "time_aware"}, LIMIT]


EXACT = {
    "stacked, sticky, limited": Case("ppo", arguments={"wrappers": WRAPPERS, "n_environments": 2}),
    "in processes": Case(
        "a2c", arguments={"wrappers": WRAPPERS, "n_environments": 2, "vectorization": "subprocess"}, total=60, every=20
    ),
    "an environment for each episode": Case("a2c", arguments={"wrappers": WRAPPERS, "fresh_environments": True}),
    "rewards": Case(
        "a2c", "Pendulum-v1", arguments={"wrappers": [{"type": "reward_scale", "scale": 0.1}, "reward_clip"]}
    ),
}
OPTIONAL = {
    "atari": (
        Case(
            "ppo",
            "PongNoFrameskip-v4",
            IMAGES,
            arguments={"wrappers": ["sticky_actions", "atari", {"type": "frame_stack", "stack_size": 4}]},
            total=40,
            every=16,
        ),
        ("ale_py", "cv2"),
    ),
    "minigrid": (
        Case("a2c", "MiniGrid-Empty-5x5-v0", arguments={"wrappers": ["minigrid_image", "flatten_observation"]}),
        ("minigrid",),
    ),
    "dm_control": (
        Case("a2c", "dm_control/cartpole-balance-v0", arguments={"wrappers": ["flatten_observation"]}),
        ("shimmy", "dm_control"),
    ),
    "robotics with hindsight": (
        Case("sac", "FetchReach-v4", {**HER, "learning_starts": 55}, total=90, every=60),
        ("gymnasium_robotics", "mujoco"),
    ),
}


@pytest.mark.parametrize("name", EXACT)
def test_a_resumed_training_is_exact(name, tmp_path, caplog):
    check_exact(EXACT[name], tmp_path)
    assert "replayed" not in caplog.text


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=installed(*modules)) for name, (_, modules) in OPTIONAL.items()]
)
def test_a_resumed_training_in_optional_environments_is_exact(name, tmp_path, caplog):
    check_exact(OPTIONAL[name][0], tmp_path)
    assert "replayed" not in caplog.text


@installed("ale_py", "cv2")
def test_sticky_actions_inside_the_emulator_begin_new_episodes(tmp_path, caplog):
    case = Case(
        "ppo", "ALE/Pong-v5", {**IMAGES, "n_steps": 4, "batch_size": 4, "n_epochs": 1},
        arguments={"wrappers": [*standard_wrappers("ALE/Pong-v5"), {"type": "time_limit", "max_episode_steps": 6}]},
        total=16, every=8,
    )  # fmt: skip
    case.train(case.make(), checkpoint_every=case.every, checkpoint_directory=tmp_path)
    (tmp_path / "checkpoint_000000000016.zip").unlink()
    agent = case.make()
    case.train(agent, resume_from=tmp_path, seed=None)
    assert "emulator" in caplog.text
    assert agent.num_timesteps == 16


def test_a_run_is_reproduced_in_its_wrappers(tmp_path):
    agent = train(make(), seed=0, wrappers=WRAPPERS)
    assert reproduce(agent.save_to_file(tmp_path / "agent.zip")).equal


def test_what_is_uploaded_comes_back_with_them(agent, tmp_path):
    connector = LocalConnector(tmp_path / "run")
    agent.upload(connector)
    assert make().download(connector).wrappers == WRAPPERS


# Other kinds of agents


def test_custom_agents(tmp_path):
    registry.register_wrapper("clipped_lake", _two_places, replace=True)
    agent = train(CustomAgent("q_learning"), "FrozenLake-v1", seed=0, wrappers=["clipped_lake", LIMIT])
    loaded = load_agent(agent.save_to_file(tmp_path / "agent.zip"))
    assert loaded.wrappers == [{"type": "clipped_lake"}, LIMIT]
    assert loaded.observation_space == spaces.Discrete(2)
    assert loaded.evaluate("FrozenLake-v1", 3, seed=0).lengths.max() <= 7


def _two_places(env):
    return gymnasium.wrappers.TransformObservation(env, lambda place: int(place > 7), spaces.Discrete(2))


@installed("imitation")
def test_imitation_agents_with_and_without_environments(tmp_path):
    expert = train(make(), seed=0, wrappers=WRAPPERS)
    episodes = EpisodeSequence.collect(expert, "CartPole-v1", 5, seed=0)
    for environments in (None, "CartPole-v1"):
        agent = ImitationAgent("bc")
        agent.train(episodes, environments, 60, wrappers=WRAPPERS, seed=0, progress_bar=False)
        loaded = load_agent(agent.save_to_file(tmp_path / "agent.zip"))
        assert loaded.wrappers == WRAPPERS
        assert loaded.evaluate("CartPole-v1", 2, seed=0).lengths.tolist() == [7, 7]
    further = StableBaselinesAgent.from_agent(loaded, "ppo", {"n_steps": 16, "batch_size": 8})
    assert further.wrappers == WRAPPERS
    assert further.evaluate("CartPole-v1", 2, seed=0).lengths.tolist() == [7, 7]


def test_composed_agents(tmp_path):
    agent = train(ComposedAgent([PPO(n_steps=16, batch_size=8, n_epochs=1)]), seed=0, wrappers=WRAPPERS)
    loaded = load_agent(agent.save_to_file(tmp_path / "agent.zip"))
    assert loaded.wrappers == WRAPPERS
    assert loaded.evaluate("CartPole-v1", 2, seed=0).lengths.tolist() == [7, 7]


def test_agents_of_one_of_several_groups_are_refused(agent):
    with pytest.raises(ArgumentError, match=r"groups='all'.*trained in"):
        MultiAgent({"all": agent}, frozen=["all"]).evaluate(object(), 1)
    with pytest.raises(ArgumentError, match="several agents"):
        train(MultiAgent({"all": make()}), object(), wrappers=["time_aware"])


def test_vectorized_environments_are_refused(agent):
    with pytest.raises(ArgumentError, match=r"wrappers=.*vectorized already"):
        agent.evaluate(make_vec_env("CartPole-v1", 2), 2)


@installed("ale_py", "cv2")
def test_pong_with_the_standard_wrappers(tmp_path):
    wrappers = standard_wrappers("ALE/Pong-v5")
    agent = train(
        StableBaselinesAgent("ppo", {"n_steps": 8, "batch_size": 8, "n_epochs": 1, **IMAGES}), "ALE/Pong-v5", 16,
        n_environments=2, wrappers=wrappers, seed=0,
    )  # fmt: skip
    assert type(agent.algorithm.policy).__name__ == "ActorCriticCnnPolicy"
    loaded = load_agent(agent.save_to_file(tmp_path / "agent.zip"))
    raw = {"max_num_frames_per_episode": 80}
    assert loaded.evaluate("ALE/Pong-v5", 1, seed=0, environment_kwargs=raw).lengths.max() <= 20
    environment = loaded.wrap(gymnasium.make("ALE/Pong-v5"))
    assert loaded.choose_action(environment.reset(seed=0)[0]) in environment.action_space


# What a file may say


def forged(path, tmp_path, wrappers):
    bundle = read_bundle(path)
    members = {}
    for name in bundle.names:
        read = bundle.json if name.endswith(".json") else bundle.arrays if name.endswith(".npz") else bundle.tensors
        members[name] = read(name)
    if wrappers is None:
        del members["wrappers.json"]
    else:
        members["wrappers.json"] = wrappers
    return write_bundle(tmp_path / "forged.zip", kind=bundle.kind, members=members, information=bundle.information)


@pytest.mark.parametrize(
    "wrappers",
    [
        ["os:system"],
        [{"type": "subprocess:run", "args": "true"}],
        [{"type": "gymnasium.wrappers:TimeLimit", "max_episode_steps": 3}],
        [{"type": "no_such_wrapper"}],
        [{"type": "time_limit", "max_episode_steps": {"type": "os:system"}}],
        [{"type": {"type": "time_limit"}}],
        [{"type": "atari", "training": True}],
        [{"type": "time_limit", "env": 1}],
        [["time_limit"]],
        {"type": "time_limit"},
        "time_limit",
        7,
        [LIMIT] * 101,
    ],
    ids=lambda wrappers: json.dumps(wrappers)[:60],
)
def test_hostile_specifications_are_refused_and_leave_the_agent_alone(wrappers, path, tmp_path, agent):
    file = forged(path, tmp_path, wrappers)
    with pytest.raises(BundleError):
        load_agent(file)
    mine = train(make(), seed=5)
    before = mine.save_to_file(tmp_path / "before.zip").read_bytes()
    with pytest.raises(BundleError):
        mine.load_from_file(file)
    assert mine.wrappers == []
    assert mine.save_to_file(tmp_path / "after.zip").read_bytes() == before


def test_bundles_from_before_there_were_wrappers_still_open(path, tmp_path, agent):
    loaded = load_agent(forged(path, tmp_path, None))
    assert loaded.wrappers == []
    environment = wrap_environment(gymnasium.make("CartPole-v1"), WRAPPERS)
    assert loaded.evaluate(environment, 2, seed=0).lengths.tolist() == [7, 7]
    plain = train(make(), seed=0)
    assert "wrappers.json" not in read_bundle(plain.save_to_file(tmp_path / "plain.zip")).names
