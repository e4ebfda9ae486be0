"""PettingZoo's environments behind the door: what happened, and nothing else, reaches whoever learns."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mpe2 import simple_spread_v3, simple_tag_v3
from pettingzoo.classic import tictactoe_v3
from pettingzoo.test import api_test, parallel_api_test
from pettingzoo.test.example_envs import generated_agents_parallel_v0
from pettingzoo.utils.conversions import parallel_to_aec
from tests.environment.pettingzoo_toys import Bidding, Mortals, Rendezvous, Strangers

from rl_framework import (
    ArgumentError,
    EpisodeSequence,
    StableBaselinesAgent,
    load_agent,
    record_video,
    register_algorithm,
)
from rl_framework.agent.reinforcement import CustomAgent, CustomAlgorithm
from rl_framework.environment import BatchedEnvironment, open_environments
from rl_framework.environment.pettingzoo import ChangingAgents
from rl_framework.errors import EnvironmentSourceError, RLFrameworkError, SpaceMismatchError
from rl_framework.evaluation import MultiAgentResult
from rl_framework.training import Callback, EpisodeEnded, Training

PPO = {"n_steps": 16, "batch_size": 16, "n_epochs": 1, "policy_kwargs": {"net_arch": [8]}}


@pytest.mark.parametrize("make", [Mortals, Rendezvous], ids=["mortals", "rendezvous"])
def test_the_toys_pass_pettingzoos_own_test(make: Any) -> None:
    parallel_api_test(make(), 50)


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_the_toy_with_turns_passes_pettingzoos_own_test() -> None:
    api_test(Bidding(die=False), 30)


def _transitions(batch: BatchedEnvironment, steps: int, act: Any = None) -> tuple[list[Any], list[str]]:
    """Acts, and returns slot, observation, reward and next observation of each transition; and how episodes ended."""
    before, _ = batch.reset_slots(0)
    found, ends = [], []
    for _ in range(steps):
        actions = np.zeros(batch.num_envs, np.int64) if act is None else act(batch)
        step = batch.step_slots(actions)
        for slot in map(int, np.flatnonzero(step.acted)):
            ended = bool(step.terminated[slot] or step.truncated[slot])
            after = step.final_observations[slot] if ended else step.observations[slot]
            found.append((slot, before[slot].tolist(), float(step.rewards[slot]), np.asarray(after).tolist()))
            if ended:
                ends.append("terminated" if step.terminated[slot] else "truncated")
        before = step.observations
    return found, ends


def test_exactly_what_happened_is_told() -> None:
    world = Mortals()
    batch = open_environments(world)
    found, ends = _transitions(batch, 10)
    assert [(slot, *map(int, before[1:])) for slot, before, _, _ in found] == world.happened
    assert len(found) == 2 * (2 + 3 + 5)
    for slot, before, reward, after in found:
        assert before[0] == slot
        assert reward == 100 * slot + before[2] + 1
        assert after == [slot, before[1], before[2] + 1]
    assert ends == ["terminated", "truncated", "terminated"] * 2
    assert world.seeds == [0, None, None]


def test_who_is_there() -> None:
    batch = open_environments(Mortals())
    batch.reset_slots(0)
    there = [batch.step_slots(np.zeros(3, np.int64)).present.tolist() for _ in range(5)]
    assert there == [[True] * 3, [False, True, True], [False, False, True], [False, False, True], [True] * 3]


def test_who_leaves_without_a_word_was_cut() -> None:
    found, ends = _transitions(open_environments(Mortals((1, 2), quiet=True)), 2)
    assert ends == ["terminated", "truncated"]
    assert found[-1] == (1, [1, 0, 1], 0.0, [1, 0, 1]), "its last observation is what it saw last"


def test_infos_have_the_names_and_the_team() -> None:
    batch = open_environments(Mortals((1, 2)))
    batch.reset_slots(0)
    first, second = batch.step_slots(np.zeros(2, np.int64)), batch.step_slots(np.zeros(2, np.int64))
    assert first.infos[0]["agent_name"] == "agent_0"
    assert "team_episode" not in first.infos[0]
    assert second.infos[1]["team_episode"] == {"r": 1 + 101 + 102, "l": 2}
    assert second.infos[1]["episode"]["r"] == 203
    assert second.reset_infos[1] == {"t": 0}
    assert second.infos[0] == {"t": 0}, "whoever enters has the info of the reset"


def test_agents_that_nobody_knew_take_free_slots() -> None:
    world = Strangers()
    batch = open_environments(ChangingAgents(world, 2))
    found, ends = _transitions(batch, 12)
    seen = Counter((f"bird_{int(before[0])}", int(before[1])) for _, before, _, _ in found)
    assert seen == Counter(world.happened)
    assert len(found) == 22
    assert len(ends) == 12
    assert {slot for slot, *_ in found} == {0, 1}
    slots = {int(before[0]): slot for slot, before, _, _ in found[:3]}
    assert slots == {0: 0, 1: 1}


def test_more_agents_than_slots_are_refused() -> None:
    with pytest.raises(ArgumentError, match=r"max_agents=1: .*'bird_1' has no slot"):
        _transitions(open_environments(ChangingAgents(Strangers(), 1)), 5)


def test_unknown_agents_need_a_number() -> None:
    with pytest.raises(ArgumentError, match="ChangingAgents"):
        open_environments(Strangers())
    assert open_environments(Strangers(), environment_kwargs={"max_agents": 3}).num_envs == 3
    with pytest.raises(ArgumentError, match="max_agents"):
        ChangingAgents(Strangers(), 0)


def test_agents_of_other_kinds_are_refused_with_their_groups() -> None:
    with pytest.raises(SpaceMismatchError, match=r"(?s)adversary_0, adversary_1, adversary_2: .*agent_0: .*MultiAgent"):
        open_environments(simple_tag_v3.parallel_env)


def test_agents_that_appear_with_other_spaces_are_refused() -> None:
    # PettingZoo's own example draws the spaces of its agents.
    with pytest.raises(SpaceMismatchError, match="MultiAgent"):
        _transitions(open_environments(ChangingAgents(generated_agents_parallel_v0.parallel_env(), 20)), 100)


def test_rewards_between_the_turns_are_the_last_decisions() -> None:
    world = Bidding()
    batch = open_environments(world)
    before, _ = batch.reset_slots(0)
    assert batch.present.tolist() == [True, False, False]
    transitions: list[Any] = []
    for _ in range(5):
        step = batch.step_slots(np.array([2, 1, 0]))
        for slot in map(int, np.flatnonzero(step.acted)):
            ended = bool(step.terminated[slot] or step.truncated[slot])
            after = step.final_observations[slot] if ended else step.observations[slot]
            transitions.append((slot, before[slot][1], step.rewards[slot], after[1], ended))
        before = step.observations
    # Slot, time of its decision, rewards until it was told, time when it was told, whether that was the end.
    assert transitions == [
        (1, 1, 1 + 10, 2, True),
        (0, 0, 20 + 1 + 1, 3, False),
        (2, 2, 1 + 1 + 0 + 1, 4, False),
        (0, 3, 20 + 1, 5, True),
        (2, 4, 0, 5, True),
    ]
    assert [turn[:2] for turn in world.turns] == [("bidder_0", 0), ("bidder_1", 1), ("bidder_2", 2), ("bidder_0", 3),
                                                  ("bidder_2", 4)]  # fmt: skip


@pytest.mark.parametrize("make", [Mortals, Rendezvous], ids=["mortals", "rendezvous"])
def test_turns_bring_what_acting_together_brings(make: Any) -> None:
    def chosen(batch: BatchedEnvironment) -> Any:
        # Whoever waits is not asked, so that only what everybody sees can decide.
        return np.full(batch.num_envs, int(world.t) % 2, np.int64)

    told = []
    for as_turns in (False, True):
        world = make()
        found, _ = _transitions(open_environments(parallel_to_aec(world) if as_turns else world), 10, chosen)
        told.append([[rest for slot, *rest in found if slot == number] for number in range(len(world.possible_agents))])
    together, by_turns = told
    for many, few in zip(together, by_turns, strict=True):
        assert len(few) >= 2
        assert few == many[: len(few)]


def test_masks_are_taken_out_of_observations() -> None:
    world = Bidding(die=False, masks=True)
    batch = open_environments(world)
    assert batch.single_observation_space.shape == (2,)
    found, _ = _transitions(batch, 18, lambda batch: batch.action_masks().argmax(axis=1))
    assert len(found) == 18
    assert all(action == t % 3 for _, t, action in world.turns)


def test_a_masked_policy_learns_by_turns() -> None:
    agent = StableBaselinesAgent("maskable_ppo", {**PPO, "n_steps": 30})
    world = Bidding(die=False, masks=True)
    agent.train(world, 60, seed=0, progress_bar=False)
    # Three slots, of which one acts in each step: after 60 turns some are not told yet.
    assert 60 <= agent.num_timesteps <= len(world.turns)
    result = agent.evaluate(Bidding(False, True), 6, seed=1)
    assert result.lengths.tolist() == [2] * 6
    assert result.team.returns.tolist() == [10 * (0 + 1 + 2) * 2 + 2 * 6] * 2


class _Counts(CustomAlgorithm):
    """Chooses 0, 1, 2, 0, ... and notes who was told what of which action."""

    def __init__(self, observation_space: Any, action_space: Any) -> None:
        super().__init__(observation_space, action_space)
        self.chosen, self.told = 0, []

    def choose_actions(self, observations: Any, deterministic: bool) -> Any:
        self.chosen += 1
        return np.full(len(observations), (self.chosen - 1) % 3)

    def learn_from(self, transitions: Any) -> None:
        seen = transitions.observations.astype(int).tolist()
        self.told += [(agent, t, int(a)) for (agent, t), a in zip(seen, transitions.actions, strict=True)]

    def get_state(self) -> dict[str, Any]:
        return {"chosen": np.array(self.chosen)}

    def set_state(self, state: dict[str, Any]) -> None:
        self.chosen = int(state["chosen"])


def test_an_algorithm_of_ones_own_is_told_of_its_own_actions() -> None:
    register_algorithm("counts_turns", _Counts)
    world, agent = Bidding(die=False), CustomAgent("counts_turns")
    agent.train(world, 18, seed=0, progress_bar=False)
    told = agent.algorithm.told
    assert len(told) == 18
    turns = [(int(name[-1]), t, action) for name, t, action in world.turns]
    assert Counter(told) == Counter(turns[: len(told)])
    sequence = EpisodeSequence.collect(agent, Bidding(die=False), 3, seed=0)
    assert sorted(sequence[i].actions.tolist() for i in range(3)) == [[0, 0], [1, 1], [2, 2]]


def test_a_real_game_is_played_by_its_rules() -> None:
    agent = StableBaselinesAgent("maskable_ppo", {**PPO, "n_steps": 32})
    agent.train(tictactoe_v3.env, 64, n_environments=2, seed=0, progress_bar=False)
    result = agent.evaluate(tictactoe_v3.env, 12, seed=0)
    assert set(result.returns) <= {-1.0, 0.0, 1.0}
    assert set(result.team.returns) == {0.0}, "an illegal move would cost its player alone"
    assert set(result.agents) == {"player_1", "player_2"}


class _Count(Callback):
    def __init__(self) -> None:
        self.returns: list[float] = []
        self.teams: list[float] = []

    def on_episode_end(self, event: EpisodeEnded, training: Training) -> None:
        self.returns.append(event.episode_return)
        if "episode/team_return" in event.metrics:
            self.teams.append(event.metrics["episode/team_return"])


@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
def test_nothing_of_the_dead_is_learned_from(algorithm: str) -> None:
    parameters = PPO if algorithm == "ppo" else {"learning_starts": 10_000, "buffer_size": 500}
    agent = StableBaselinesAgent(algorithm, parameters)
    world, count = Mortals(), _Count()
    agent.train(world, 60, seed=0, progress_bar=False, callbacks=[count])
    happened = len(world.happened)
    assert agent.num_timesteps == happened
    if algorithm == "dqn":
        buffer = agent.algorithm.replay_buffer
        stored = [tuple(map(int, row)) for row in buffer.observations[: buffer.pos, 0]]
        assert stored == world.happened
    else:
        # The rollout begins within an episode of the world, of 10 transitions in 5 steps.
        assert agent.algorithm.rollout_buffer.acted.sum() == sum(
            1 for _, episode, t in world.happened if 5 * episode + t >= (world.episode * 5 + world.t) - 16
        )
    assert count.teams == [1 + 2 + 101 + 102 + 103 + 201 + 202 + 203 + 204 + 205] * len(count.teams)
    assert len(count.teams) == world.episode
    assert set(count.returns) == {3.0, 306.0, 1015.0}


def test_changing_numbers_of_agents_share_a_policy() -> None:
    agent = StableBaselinesAgent("dqn", {"learning_starts": 10_000, "buffer_size": 500})
    world = Strangers()
    agent.train(ChangingAgents(world, 2), 60, seed=0, progress_bar=False)
    buffer = agent.algorithm.replay_buffer
    stored = [(f"bird_{int(row[0])}", int(row[1])) for row in buffer.observations[: buffer.pos, 0]]
    assert agent.num_timesteps == len(world.happened) >= 60
    assert Counter(stored) == Counter(world.happened)
    result = agent.evaluate(ChangingAgents(Strangers(), 2), 12, seed=0)
    # Six steps of the world, each of which pays 1 to everybody there; in the first, one is there.
    assert set(result.team.returns) == {1.0 + 5 * 2.0}
    assert set(result.agents) == {f"bird_{number}" for number in range(6)}


def test_evaluation_is_of_each_agent_and_of_the_team() -> None:
    agent = StableBaselinesAgent("ppo", PPO).train(Mortals(), 16, seed=0, progress_bar=False)
    result = agent.evaluate(Mortals(), 6, seed=0)
    assert isinstance(result, MultiAgentResult)
    assert sorted(result.returns) == [3, 3, 306, 306, 1015, 1015]
    assert {name: part.returns.tolist() for name, part in result.agents.items()} == {
        "agent_0": [3, 3],
        "agent_1": [306, 306],
        "agent_2": [1015, 1015],
    }
    assert result.team is not None
    assert (result.team.returns.tolist(), result.team.lengths.tolist()) == ([1324, 1324], [5, 5])
    assert "mean return of team" in result.table()
    assert MultiAgentResult.from_dict(result.to_dict()) == result
    assert result != agent.evaluate(Mortals(), 9, seed=0)


def test_factories_make_several_worlds_of_which_each_has_its_seed() -> None:
    made: list[Mortals] = []

    def make(lives: tuple[int, ...] = (2, 3)) -> Mortals:
        made.append(Mortals(lives))
        return made[-1]

    batch = open_environments(make, n_environments=3)
    batch.reset_slots(5)
    assert batch.num_envs == 6
    assert [world.seeds for world in made] == [[5], [7], [9]]
    batch.close()
    assert [world.closed for world in made] == [1, 1, 1]
    assert open_environments(make, environment_kwargs={"lives": (1, 1, 1, 1)}).num_envs == 4


def test_the_users_world_is_not_closed() -> None:
    world = Mortals()
    open_environments(world).close()
    open_environments([world, Mortals()]).close()
    assert world.closed == 0


def test_the_same_seed_gives_the_same_weights() -> None:
    def weights() -> Any:
        agent = StableBaselinesAgent("ppo", PPO)
        return agent.train(Rendezvous, 64, n_environments=2, seed=3, progress_bar=False).algorithm.policy.state_dict()

    one, other = weights(), weights()
    assert all((one[name] == other[name]).all() for name in one)


def test_everything_else_works_as_with_any_environment(tmp_path: Path) -> None:
    agent = StableBaselinesAgent("ppo", PPO)
    arguments: dict[str, Any] = {"checkpoint_every": 32, "checkpoint_directory": tmp_path, "progress_bar": False}
    agent.train(Rendezvous, 64, n_environments=2, seed=0, evaluate_every=64, n_eval_episodes=2, **arguments)
    assert (tmp_path / "best_model.zip").exists()
    resumed = StableBaselinesAgent("ppo", PPO)
    resumed.train(Rendezvous, 128, n_environments=2, resume_from=tmp_path, **arguments)
    assert resumed.num_timesteps == 128
    loaded = load_agent(resumed.save_to_file(tmp_path / "agent.zip"))
    sequence = EpisodeSequence.collect(loaded, Rendezvous, 4, seed=0)
    assert sequence.lengths.tolist() == [5, 5, 5, 5]
    assert sequence[0].infos[-1]["agent_name"] in ("left_0", "right_0")
    film = record_video(
        loaded, Rendezvous(render_mode="rgb_array"), tmp_path / "film.gif", 5, seed=0, show_progress=False
    )
    assert film.stat().st_size > 0


def test_simple_spread_is_filmed(tmp_path: Path) -> None:
    agent = StableBaselinesAgent("ppo", PPO)
    agent.train(simple_spread_v3.parallel_env, 48, seed=0, progress_bar=False, environment_kwargs={"max_cycles": 5})
    assert agent.history()["runs"][-1]["environment"] == "simple_spread_v3"
    arguments = {"render_mode": "rgb_array", "max_cycles": 3}
    path = tmp_path / "spread.gif"
    record_video(
        agent, simple_spread_v3.parallel_env, path, 4, seed=0, environment_kwargs=arguments, show_progress=False
    )
    assert path.stat().st_size > 0


def test_nothing_of_pettingzoos_is_refused() -> None:
    with pytest.raises(EnvironmentSourceError, match="no environment of PettingZoo"):
        open_environments("pettingzoo")


def test_the_module_of_a_world_is_told_what_to_give() -> None:
    from mpe2 import simple_spread_v3

    with pytest.raises(EnvironmentSourceError, match=r"Give simple_spread_v3\.parallel_env\.$"):
        open_environments(simple_spread_v3)


def test_a_world_without_agents_is_an_error() -> None:
    class Deserted(Mortals):
        def reset(self, seed: int | None = None, options: Any = None) -> Any:
            self.agents = []
            return {}, {}

    with pytest.raises(RLFrameworkError, match="no agents after its reset"):
        open_environments(Deserted()).reset_slots(0)
