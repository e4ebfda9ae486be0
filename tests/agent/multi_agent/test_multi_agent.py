"""Several agents trained in one world: each its own, in lockstep, and whatever goes wrong ends all of them."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pettingzoo.classic import tictactoe_v3
from stable_baselines3.common.callbacks import BaseCallback
from tests.agent.multi_agent.samples import DQN, PPO, by_chance, two_of_a_kind, unlike
from tests.environment.pettingzoo_toys import Bidding, Mortals, Rendezvous, Strangers

from rl_framework import (
    ArgumentError,
    BundleError,
    EpisodeSequence,
    ImitationAgent,
    LocalConnector,
    MultiAgent,
    StableBaselinesAgent,
    load_agent,
    record_video,
)
from rl_framework.agent.multi_agent import GroupEvent
from rl_framework.agent.multi_agent.rendezvous import Loop
from rl_framework.bundle import read_bundle, write_bundle
from rl_framework.environment.pettingzoo import ChangingAgents
from rl_framework.errors import (
    EnvironmentSourceError,
    NotTrainedError,
    RLFrameworkError,
    SpaceMismatchError,
    UnknownNameError,
)
from rl_framework.evaluation import MultiAgentResult
from rl_framework.training import Callback, EpisodeEnded, Event, Training
from rl_framework.training.metrics import read_metrics

ARGUMENTS: dict[str, Any] = {"n_environments": 2, "seed": 0, "progress_bar": False}


def weights(agent: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in agent.algorithm.policy.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Any:
    yield
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("train ")]


@pytest.fixture(scope="module")
def trained() -> MultiAgent:
    return two_of_a_kind().train(unlike, 64, **ARGUMENTS)


def test_every_group_learns_on_its_own_transitions(trained: MultiAgent) -> None:
    assert trained.num_timesteps == 64
    assert [trained[name].num_timesteps for name in trained] == [64, 64]
    assert trained["left"].observation_space.shape == (3,)
    assert trained["right"].observation_space.shape == (2,)
    fresh = two_of_a_kind().train(unlike, 1, **ARGUMENTS)
    assert all(not same(weights(trained[name]), weights(fresh[name])) for name in trained)


def test_the_same_seed_gives_the_same_weights(trained: MultiAgent) -> None:
    again = two_of_a_kind().train(unlike, 64, **ARGUMENTS)
    assert all(same(weights(trained[name]), weights(again[name])) for name in trained)
    other = two_of_a_kind().train(unlike, 64, **{**ARGUMENTS, "seed": 1})
    assert not same(weights(trained["left"]), weights(other["left"]))


def test_a_second_training_goes_on() -> None:
    multi = two_of_a_kind().train(unlike, 32, **ARGUMENTS)
    multi.train(unlike, 32, n_environments=2, progress_bar=False)
    assert (multi.num_timesteps, multi["left"].num_timesteps) == (64, 64)


def test_algorithms_of_any_kind_side_by_side() -> None:
    multi = MultiAgent({"left": StableBaselinesAgent("dqn", DQN), "right": by_chance()})
    multi.train(unlike, 60, **ARGUMENTS)
    # DQN collects four steps at a time.
    assert (multi["left"].num_timesteps, multi["right"].num_timesteps) == (64, 60)
    assert multi["right"].algorithm.steps == 30


def test_longer_rollouts_are_finished_while_the_others_act() -> None:
    multi = two_of_a_kind({"n_steps": 8}, {"n_steps": 24})
    multi.train(unlike, 40, **ARGUMENTS)
    # 20 steps of two worlds are asked for; rollouts of 8 end at 24 steps, and so does one of 24.
    assert (multi["left"].num_timesteps, multi["right"].num_timesteps, multi.num_timesteps) == (48, 48, 48)
    multi = two_of_a_kind({"n_steps": 8}, {"n_steps": 30})
    multi.train(unlike, 40, **ARGUMENTS)
    assert (multi["left"].num_timesteps, multi["right"].num_timesteps, multi.num_timesteps) == (48, 60, 60)


def test_groups_whose_agents_die_end_with_all() -> None:
    multi = MultiAgent(
        {"short": StableBaselinesAgent("ppo", PPO), "long": StableBaselinesAgent("ppo", PPO)},
        {"short": ["agent_0"], "long": ["agent_1", "agent_2"]},
    )
    world = Mortals()
    multi.train(world, 64, seed=0, progress_bar=False)
    assert multi.num_timesteps == 64
    lived = [sum(1 for number, _, _ in world.happened if number in group) for group in ([0], [1, 2])]
    assert [multi["short"].num_timesteps, multi["long"].num_timesteps] == lived


def test_exactly_its_own_transitions_reach_each_group() -> None:
    groups = {"few": [0], "many": [1, 2]}
    multi = MultiAgent(
        {name: StableBaselinesAgent("dqn", {**DQN, "learning_starts": 500}) for name in groups},
        {name: [f"agent_{number}" for number in numbers] for name, numbers in groups.items()},
    )
    world = Mortals(quiet=True)
    multi.train(world, 60, seed=0, progress_bar=False)
    for name, numbers in groups.items():
        buffer = multi[name].algorithm.replay_buffer
        stored = [tuple(map(int, row)) for row in buffer.observations[: buffer.pos, 0]]
        assert stored == [each for each in world.happened if each[0] in numbers]


def test_agents_that_nobody_knew_in_a_group() -> None:
    world = Strangers()
    multi = MultiAgent({"bird": by_chance()})
    multi.train(ChangingAgents(world, 2), 24, seed=0, progress_bar=False)
    assert multi["bird"].num_timesteps == len(world.happened)


def test_masks_reach_the_group_that_uses_them() -> None:
    masked = {"n_steps": 32, "batch_size": 16, "n_epochs": 1, "policy_kwargs": {"net_arch": [8]}}
    multi = MultiAgent(
        {name: StableBaselinesAgent("maskable_ppo", masked) for name in ("first", "second")},
        {"first": ["player_1"], "second": ["player_2"]},
    )
    multi.train(tictactoe_v3.env, 64, n_environments=2, seed=0, progress_bar=False)
    result = multi.evaluate(tictactoe_v3.env, 6, seed=0)
    assert set(result.returns) == {0.0}, "an illegal move would cost its player alone"
    assert set(result.groups["first"].returns) <= {-1.0, 0.0, 1.0}
    world = tictactoe_v3.env()
    world.reset(seed=0)
    seen = world.observe("player_1")
    mask = np.arange(9) == 4
    assert multi.choose_action({"player_1": seen["observation"]}, action_masks={"player_1": mask}) == {"player_1": 4}
    unmasked = MultiAgent({"left": StableBaselinesAgent("maskable_ppo", masked), "right": by_chance()})
    with pytest.raises(ArgumentError, match="these environments have none"):
        unmasked.train(unlike, 8, **ARGUMENTS)


def test_agents_that_take_turns() -> None:
    multi = MultiAgent(
        {"first": StableBaselinesAgent("ppo", PPO), "others": by_chance()},
        {"first": ["bidder_0"], "others": ["bidder_1", "bidder_2"]},
    )
    multi.train(lambda: Bidding(die=False), 48, seed=0, progress_bar=False)
    result = multi.evaluate(lambda: Bidding(die=False), 2, seed=0)
    assert {name: len(part.returns) for name, part in result.groups.items()} == {"first": 2, "others": 4}
    assert result.team.lengths.tolist() == [6, 6]


def test_a_frozen_group_acts_and_stays_as_it_is(trained: MultiAgent, tmp_path: Path) -> None:
    opponent = load_agent(trained["right"].save_to_file(tmp_path / "right.zip"))
    multi = MultiAgent({"left": StableBaselinesAgent("ppo", PPO), "right": opponent}, frozen="right")
    before = weights(opponent)
    multi.train(unlike, 64, **ARGUMENTS)
    assert same(before, weights(opponent))
    assert (multi["left"].num_timesteps, opponent.num_timesteps) == (64, 64)
    assert load_agent(multi.save_to_file(tmp_path / "multi.zip")).frozen == ("right",)
    with pytest.raises(ArgumentError, match="every group is frozen"):
        MultiAgent({"right": opponent, "left": trained["left"]}, frozen=["right", "left"]).train(unlike, 8, **ARGUMENTS)
    with pytest.raises(NotTrainedError, match="the frozen group 'right' needs a trained agent"):
        MultiAgent({"left": by_chance(), "right": by_chance()}, frozen=["right"]).train(unlike, 8, **ARGUMENTS)


class _Listen(Callback):
    def __init__(self) -> None:
        self.groups: list[GroupEvent] = []
        self.teams: list[float] = []
        self.steps: list[int] = []
        self.boundaries: list[int] = []
        self.threads: set[str] = set()

    def on_event(self, event: Event, training: Training) -> None:
        super().on_event(event, training)
        self.threads.add(threading.current_thread().name)
        if isinstance(event, GroupEvent):
            self.groups.append(event)

    def on_episode_end(self, event: EpisodeEnded, training: Training) -> None:
        self.teams.append(event.episode_return)

    def on_step(self, training: Training) -> None:
        self.steps.append(training.timestep)

    def on_boundary(self, training: Training) -> None:
        self.boundaries.append(training.timestep)


def test_what_is_told_has_the_name_of_the_group() -> None:
    listen = _Listen()
    two_of_a_kind().train(unlike, 64, callbacks=[listen], **ARGUMENTS)
    returns = {
        name: [event.metrics[f"{name}/episode/return"] for event in listen.groups if type(event.event) is EpisodeEnded
               and event.group == name]
        for name in ("left", "right")
    }  # fmt: skip
    assert len(returns["left"]) == 2 * (32 // 5)
    assert returns["left"] == returns["right"], "both earn the same"
    assert listen.teams == [2 * each for each in returns["left"]]
    assert any("right/train/loss" in event.metrics for event in listen.groups)
    assert listen.steps == list(range(2, 65, 2))
    assert listen.boundaries == [0, 32, 64]
    assert listen.threads == {"MainThread"}
    assert all(event.timestep % 2 == 0 for event in listen.groups)


def test_trackers_get_the_metrics(tmp_path: Path) -> None:
    two_of_a_kind().train(unlike, 64, connector=LocalConnector(tmp_path), **ARGUMENTS)
    (file,) = tmp_path.rglob("metrics.jsonl")
    names = {name for record in read_metrics(file) for name in record.metrics}
    assert {"episode/return", "left/episode/return", "right/train/value_loss"} <= names


class _Stop(Callback):
    def on_step(self, training: Training) -> None:
        if training.timestep == 22:
            training.stop("enough")


def test_a_callback_stops_all_of_them() -> None:
    multi = two_of_a_kind({"n_steps": 8}).train(unlike, 64, callbacks=[_Stop()], **ARGUMENTS)
    assert [multi.num_timesteps, multi["left"].num_timesteps, multi["right"].num_timesteps] == [22, 22, 22]
    multi.train(unlike, 32, n_environments=2, progress_bar=False)
    assert multi.num_timesteps == 54


def test_an_algorithm_that_fails_ends_all_and_says_which() -> None:
    multi = MultiAgent({"left": StableBaselinesAgent("ppo", PPO), "right": by_chance(fails_at=10)})
    with pytest.raises(RuntimeError, match="the algorithm broke") as caught:
        multi.train(unlike, 64, **ARGUMENTS)
    assert caught.value.__notes__ == ["while the group 'right' was trained"]
    assert multi["left"].num_timesteps == 20
    MultiAgent({"left": multi["left"], "right": by_chance()}).train(unlike, 32, **ARGUMENTS)


def test_a_world_that_fails_ends_all() -> None:
    def broken() -> Any:
        world = unlike()
        world.fails_at = 7
        return world

    multi = two_of_a_kind()
    with pytest.raises(ValueError, match="the world broke"):
        multi.train(broken, 64, seed=0, progress_bar=False)
    assert multi.num_timesteps == 6


def test_a_callback_that_fails_ends_all() -> None:
    class Breaks(Callback):
        def on_event(self, event: Event, training: Training) -> None:
            if isinstance(event, GroupEvent):
                raise KeyError("the callback broke")

    with pytest.raises(KeyError, match="the callback broke"):
        two_of_a_kind().train(unlike, 64, callbacks=[Breaks()], **ARGUMENTS)


def test_ctrl_c_ends_all_and_they_can_go_on() -> None:
    multi = MultiAgent({"left": StableBaselinesAgent("ppo", PPO), "right": by_chance(interrupts_at=10)})
    with pytest.raises(KeyboardInterrupt):
        multi.train(unlike, 640, **ARGUMENTS)
    assert multi.num_timesteps in (20, 22)
    multi.train(unlike, 32, n_environments=2, progress_bar=False)
    assert multi.num_timesteps >= 52


def test_ctrl_c_before_anything_is_asked_for_ends_all(monkeypatch: pytest.MonkeyPatch) -> None:
    multi, ended = two_of_a_kind(), threading.Event()
    learn, abandon = multi["left"].learn, Loop.abandon

    def interrupted(*arguments: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        ended.wait(60)
        learn(*arguments)

    def abandoned(loop: Loop) -> None:
        loop._abandoned = True
        ended.set()
        abandon(loop)

    multi["left"].learn = interrupted
    monkeypatch.setattr(Loop, "abandon", abandoned)
    with pytest.raises(KeyboardInterrupt):
        multi.train(unlike, 64, **ARGUMENTS)


def test_ctrl_c_with_checkpoints_writes_one_first(tmp_path: Path) -> None:
    def both(**parameters: int) -> MultiAgent:
        return MultiAgent({"left": StableBaselinesAgent("ppo", PPO), "right": by_chance(**parameters)})

    with pytest.raises(KeyboardInterrupt):
        both(interrupts_at=10).train(unlike, 640, checkpoint_every=320, checkpoint_directory=tmp_path, **ARGUMENTS)
    assert [path.name for path in tmp_path.glob("checkpoint_*")] == ["checkpoint_000000000032.zip"]
    resumed = both(interrupts_at=10).train(unlike, 64, n_environments=2, resume_from=tmp_path, progress_bar=False)
    assert (resumed.num_timesteps, resumed["right"].algorithm.steps) == (64, 32)


def test_an_algorithm_that_begins_episodes_by_itself_is_refused() -> None:
    multi = MultiAgent({"left": StableBaselinesAgent("ppo", PPO), "right": by_chance(resets_at=3)})
    agent = multi["right"]
    prepare = agent.prepare

    def prepare_and_tell(batch: Any, seed: Any) -> int:
        used = prepare(batch, seed)
        agent.algorithm.batch = batch
        return used

    agent.prepare = prepare_and_tell
    with pytest.raises(RLFrameworkError, match="begins new episodes by itself"):
        multi.train(unlike, 32, **ARGUMENTS)


def test_evaluation_by_agent_group_and_team(trained: MultiAgent) -> None:
    mean, _ = result = trained.evaluate(unlike, 6, seed=0)
    assert isinstance(result, MultiAgentResult)
    assert result.n_episodes == 6
    assert set(result.lengths) == {5}
    assert mean == result.team.mean == pytest.approx(2 * result.groups["left"].mean)
    assert set(result.agents) == {"left_0", "right_0"}
    assert trained.evaluate(unlike, 6, seed=0) == result
    listed = trained.evaluate([unlike(), unlike()], 6, seed=0)
    assert listed.n_episodes == 6


def test_actions_by_name(trained: MultiAgent) -> None:
    world = unlike()
    observations, _ = world.reset(seed=0)
    actions = trained.choose_action(observations)
    assert set(actions) == {"left_0", "right_0"}
    assert actions["left_0"] == trained["left"].choose_action(observations["left_0"])
    assert trained.choose_action({"right_7": observations["right_0"]})["right_7"] in (0, 1, 2)
    again, states = trained.choose_action(observations, state=None)
    assert (again, set(states)) == (actions, {"left_0", "right_0"})
    with pytest.raises(UnknownNameError, match="middle_0"):
        trained.choose_action({"middle_0": observations["left_0"]})
    with pytest.raises(ArgumentError, match="must be a mapping"):
        trained.choose_action(observations["left_0"])


def test_episodes_of_each_group(trained: MultiAgent) -> None:
    episodes = trained.collect(unlike, 4, seed=0)
    assert {name: sequence.lengths.tolist() for name, sequence in episodes.items()} == {
        "left": [5] * 4,
        "right": [5] * 4,
    }
    assert episodes["left"].observation_space == trained["left"].observation_space
    assert episodes["left"].returns.tolist() == episodes["right"].returns.tolist()
    result = trained.evaluate(unlike, 4, seed=0)
    assert sorted(episodes["left"].returns) == sorted(result.groups["left"].returns)


def test_a_film_of_all(trained: MultiAgent, tmp_path: Path) -> None:
    path = tmp_path / "all.gif"
    record_video(trained, lambda: unlike(render_mode="rgb_array"), path, 6, seed=0, show_progress=False)
    assert path.stat().st_size > 0
    asked = {"overlay": ["action", "return"], "environment_kwargs": {"render_mode": "rgb_array"}}
    record_video(trained, unlike, tmp_path / "told.mp4", 4, seed=0, show_progress=False, **asked)
    told = json.loads((tmp_path / "told.components.json").read_text())
    assert [part["label"] for part in told["components"]] == ["left", "right", "return"]
    connector = LocalConnector(tmp_path / "runs")
    trained.upload(connector, video_recording_environment=lambda: unlike(render_mode="rgb_array"))
    assert isinstance(load_agent(connector.directory / "agent.zip"), MultiAgent)
    assert list(connector.directory.glob("replay.*"))


def test_one_bundle_for_all_and_one_for_each(trained: MultiAgent, tmp_path: Path) -> None:
    path = trained.save_to_file(tmp_path / "all.zip")
    loaded = load_agent(path)
    assert isinstance(loaded, MultiAgent)
    assert loaded.evaluate(unlike, 4, seed=0) == trained.evaluate(unlike, 4, seed=0)
    assert loaded.num_timesteps == 64
    other = two_of_a_kind().load_from_file(path, {"left": {"learning_rate": 0.5}})
    assert other["left"].algorithm.learning_rate == 0.5
    assert same(weights(other["right"]), weights(trained["right"]))
    files = trained.save_groups(tmp_path)
    assert same(weights(load_agent(files["left"])), weights(trained["left"]))
    third = two_of_a_kind().train(unlike, 1, **ARGUMENTS)
    third["left"].load_from_file(files["left"])
    assert same(weights(third["left"]), weights(trained["left"]))
    loaded.train(unlike, 32, n_environments=2, progress_bar=False)
    assert loaded.num_timesteps == 96


def test_other_groups_are_not_loaded(trained: MultiAgent, tmp_path: Path) -> None:
    path = trained.save_to_file(tmp_path / "all.zip")
    with pytest.raises(BundleError, match="holds the groups"):
        MultiAgent({"left": by_chance()}).load_from_file(path)
    with pytest.raises(UnknownNameError, match="algorithm_parameters"):
        load_agent(path, {"middle": {}})


@pytest.mark.parametrize(
    "groups",
    [
        [],
        "left",
        [{"name": "left", "kind": "multi", "agents": None, "frozen": False}],
        [{"name": "left", "kind": "os.system", "agents": None, "frozen": False}],
        [{"name": "left", "kind": "stable_baselines", "agents": [1], "frozen": False}],
        [{"name": "left", "kind": "stable_baselines", "agents": None, "frozen": False}] * 2,
        [{"kind": "stable_baselines"}],
    ],
    ids=["none", "text", "nested", "unknown", "numbers", "twice", "nameless"],
)
def test_forged_groups_are_refused(trained: MultiAgent, tmp_path: Path, groups: Any) -> None:
    members = trained.bundle_members()
    members["multi_agent.json"] = {**members["multi_agent.json"], "groups": groups}
    path = write_bundle(tmp_path / "forged.zip", kind="multi", members=members)
    with pytest.raises(BundleError):
        load_agent(path)


def test_checkpoints_and_resuming(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    arguments = {"checkpoint_every": 32, "checkpoint_directory": tmp_path, **ARGUMENTS}
    multi = two_of_a_kind().train(unlike, 64, **arguments)
    assert sorted(path.name for path in tmp_path.glob("checkpoint_*")) == [
        "checkpoint_000000000032.zip",
        "checkpoint_000000000064.zip",
    ]
    with read_bundle(tmp_path / "checkpoint_000000000064.zip") as bundle:
        assert "groups/0/training_state/tensors.safetensors" in bundle
    resumed = [
        two_of_a_kind().train(
            unlike, 128, n_environments=2, progress_bar=False, resume_from=tmp_path / "checkpoint_000000000064.zip"
        )
        for _ in range(2)
    ]
    assert resumed[0].num_timesteps == 128
    assert resumed[0]["left"].num_timesteps == 128
    assert "training goes on with new episodes" in caplog.text
    assert all(same(weights(resumed[0][name]), weights(resumed[1][name])) for name in multi)
    steps = resumed[0]["left"].algorithm.policy.optimizer.state_dict()["state"][0]["step"]
    assert steps == 128 // 16 * 2, "the optimizer has gone on"
    done = two_of_a_kind().train(unlike, 64, resume_from=tmp_path, n_environments=2, progress_bar=False)
    assert all(same(weights(done[name]), weights(multi[name])) for name in multi)
    with pytest.raises(ArgumentError, match="frozen"):
        MultiAgent(two_of_a_kind().agents, frozen=["left"]).train(unlike, 128, n_environments=2, resume_from=tmp_path)


def test_checkpoints_wait_for_rollouts_to_meet(tmp_path: Path) -> None:
    multi = two_of_a_kind({"n_steps": 8}, {"n_steps": 12})
    multi.train(unlike, 96, checkpoint_every=16, checkpoint_directory=tmp_path, **ARGUMENTS)
    found = sorted(int(path.stem.split("_")[1]) for path in tmp_path.glob("checkpoint_*"))
    assert found == [48, 96]


def test_evaluations_in_between_change_nothing(trained: MultiAgent, tmp_path: Path) -> None:
    multi = two_of_a_kind()
    multi.train(unlike, 64, evaluate_every=10, n_eval_episodes=2, checkpoint_directory=tmp_path, **ARGUMENTS)
    assert all(same(weights(multi[name]), weights(trained[name])) for name in multi)
    assert isinstance(load_agent(tmp_path / "best_model.zip"), MultiAgent)


def test_agents_and_groups_have_to_fit() -> None:
    with pytest.raises(ArgumentError, match="'right_0' is in none of the groups"):
        MultiAgent({"left": by_chance()}).train(unlike, 8)
    with pytest.raises(ArgumentError, match="no agent is in the group 'middle'"):
        MultiAgent({"left": by_chance(), "right": by_chance(), "middle": by_chance()}).train(unlike, 8)
    with pytest.raises(UnknownNameError, match="right_1"):
        MultiAgent({"left": by_chance(), "right": by_chance()}, {"right": ["right_0", "right_1"]}).train(unlike, 8)
    with pytest.raises(SpaceMismatchError, match="the agents of the group 'all' have different"):
        MultiAgent({"all": by_chance()}, {"all": ["left_0", "right_0"]}).train(unlike, 8)
    with pytest.raises(EnvironmentSourceError, match="has no groups of agents"):
        MultiAgent({"left": by_chance()}).train("CartPole-v1", 8)
    twice = unlike()
    with pytest.raises(EnvironmentSourceError, match="the same object is there more than once"):
        MultiAgent({"left": by_chance(), "right": by_chance()}).train([twice, twice], 8)
    with pytest.raises(ArgumentError, match="the factory does not take them"):
        MultiAgent({"left": by_chance(), "right": by_chance()}).train(
            Rendezvous, 8, environment_kwargs={"no_such_size": 3}
        )
    with pytest.raises(ArgumentError, match="stepped in this process"):
        MultiAgent({"left": by_chance(), "right": by_chance()}).train(unlike, 8, vectorization="subprocess")


def test_what_cannot_be_a_group() -> None:
    one = by_chance()
    with pytest.raises(ArgumentError, match="one agent is in two groups"):
        MultiAgent({"left": one, "right": one})
    with pytest.raises(ArgumentError, match="does not learn by reinforcement"):
        MultiAgent({"left": one, "right": ImitationAgent("bc")})
    with pytest.raises(ArgumentError, match="is no agent"):
        MultiAgent({"left": MultiAgent({"left": one})})
    with pytest.raises(ArgumentError, match="not empty"):
        MultiAgent({})
    with pytest.raises(UnknownNameError, match="rihgt"):
        MultiAgent({"left": one}, frozen=["rihgt"])
    with pytest.raises(UnknownNameError, match="rihgt"):
        MultiAgent({"left": one})["rihgt"]
    with pytest.raises(ArgumentError, match="callbacks"):
        MultiAgent({"left": one}).train(unlike, 8, callbacks=[_Sb3Callback()])


class _Sb3Callback(BaseCallback):
    def _on_step(self) -> bool:
        return True


def test_what_acts_needs_observations_by_group(trained: MultiAgent) -> None:
    with pytest.raises(ArgumentError, match="mapping of the groups"):
        trained.predict(np.zeros((2, 3)))
    with pytest.raises(ArgumentError, match="Use its own train, evaluate and collect"):
        EpisodeSequence.collect(trained, Rendezvous, 2)
    with pytest.raises(ArgumentError, match="acts for several groups of agents"):
        EpisodeSequence.collect(trained, unlike, 2)
