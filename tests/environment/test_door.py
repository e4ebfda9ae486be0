"""Whatever users have becomes one batched environment; what cannot is refused with the reason; nothing is closed."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.classic_control import CartPoleEnv
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import ClipReward, NormalizeReward, TransformReward
from stable_baselines3.common.vec_env import DummyVecEnv
from tests.environment.toys import Counter, DictWorld, ImageWorld

from rl_framework.environment import BatchedEnvironment, open_environments
from rl_framework.environment.door import can_be_made_afresh, choose_vectorization, environment_id_of
from rl_framework.errors import ArgumentError, EnvironmentSourceError, SpaceMismatchError


def _run(batch: BatchedEnvironment, steps: int = 5) -> Any:
    """Checks that a batch can be stepped, and returns its last observations."""
    observations, infos = batch.reset_slots(3)
    assert len(infos) == batch.num_envs
    for _ in range(steps):
        step = batch.step_slots(batch.action_space.sample())
        observations = step.observations
        assert observations in batch.observation_space
    return observations


@pytest.mark.parametrize(
    ("source", "count", "expected"),
    [
        ("CartPole-v1", None, 1),
        ("CartPole-v1", 3, 3),
        ("CartPole-v1", np.int64(2), 2),
        (gymnasium.spec("CartPole-v1"), 2, 2),
        (lambda: gymnasium.make("CartPole-v1"), 2, 2),
        (CartPoleEnv, 2, 2),
        (["CartPole-v1", CartPoleEnv, CartPoleEnv(), gymnasium.spec("CartPole-v0")], None, 4),
        (("CartPole-v1", "CartPole-v1", "CartPole-v1"), 3, 3),
        ([CartPoleEnv(), CartPoleEnv], 2, 2),
        (CartPoleEnv(), None, 1),
        (CartPoleEnv(), 1, 1),
        ((CartPoleEnv(), CartPoleEnv), 3, 3),
        ([(CartPoleEnv(), CartPoleEnv), "CartPole-v1"], None, 2),
    ],
)
@pytest.mark.filterwarnings("ignore:.*CartPole-v0 is out of date")
def test_sources_become_slots(source: Any, count: int | None, expected: int) -> None:
    batch = open_environments(source, count)
    assert batch.num_envs == expected
    assert batch.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert not batch.may_be_absent
    assert batch.present.all()
    _run(batch)
    batch.close()


@pytest.mark.parametrize(
    "source",
    [
        lambda: SyncVectorEnv([CartPoleEnv] * 2),
        lambda: gymnasium.make_vec("CartPole-v1", num_envs=2),
        lambda: DummyVecEnv([CartPoleEnv] * 2),
    ],
)
def test_vectorized_environments_are_taken_as_they_are(source: Any) -> None:
    given = source()
    batch = open_environments(given, 2)
    _run(batch)
    batch.close()
    with pytest.raises(ArgumentError, match=r"n_environments=3: .*holds 2"):
        open_environments(given, 3)
    with pytest.raises(ArgumentError, match="environment_kwargs"):
        open_environments(given, environment_kwargs={"gravity": 1.0})
    with pytest.raises(ArgumentError, match="vectorized already"):
        open_environments(given, vectorization="sync")


def test_native_form_is_made_only_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[Any] = []
    monkeypatch.setattr(CartPoleVectorEnv, "close", lambda self: closed.append(id(self)))
    batch = open_environments("CartPole-v1", 3, {"sutton_barto_reward": True}, vectorization="native")
    assert isinstance(batch.environment, CartPoleVectorEnv)  # type: ignore[attr-defined]
    assert (batch.vectorization, batch.vectorization_reason) == ("native", "asked for")
    assert batch.environment_id == "CartPole-v1"
    assert batch.may_be_absent
    _run(batch)
    batch.close()
    batch.close()
    assert closed == [id(batch.environment)]  # type: ignore[attr-defined]


@pytest.mark.parametrize("source", ["Pendulum-v1", CartPoleEnv, [CartPoleEnv], CartPoleEnv()])
def test_native_form_has_to_exist(source: Any) -> None:
    with pytest.raises(ArgumentError, match="has no vectorized form"):
        open_environments(source, vectorization="native")


def test_native_form_refuses_as_gymnasium_does() -> None:
    with pytest.raises(EnvironmentSourceError, match="CartPole"):
        open_environments("CartPol-v1", vectorization="native")
    with pytest.raises(EnvironmentSourceError, match="could not make it"):
        open_environments("CartPole-v1", environment_kwargs={"vector_kwargs": 1}, vectorization="native")


def test_arguments_reach_ids_and_factories() -> None:
    by_id = open_environments("CartPole-v1", 2, {"max_episode_steps": 2})
    by_id.reset_slots(0)
    by_id.step_slots(np.array([0, 1]))
    assert by_id.step_slots(np.array([0, 1])).truncated.all()
    by_factory = open_environments(Counter, 2, {"number": 7.0})
    assert by_factory.reset_slots()[0][:, 0].tolist() == [7.0, 7.0]
    by_pair = open_environments((Counter(), Counter), 2, {"number": 8.0})
    assert by_pair.reset_slots()[0][:, 0].tolist() == [8.0, 8.0]


def test_auto_is_a_rule_that_steps_nothing() -> None:
    environments = [Counter(), Counter()]
    batch = open_environments(environments)
    assert [environment.resets for environment in environments] == [0, 0]
    assert batch.vectorization == "sync"
    assert batch.vectorization_reason
    for count in (1, 2, 64, 10_000):
        chosen, reason = choose_vectorization("auto", count)
        assert chosen == "sync"
        assert reason
    assert choose_vectorization("subprocess", 1) == ("subprocess", "asked for")


@pytest.mark.parametrize("vectorization", ["", "Sync", "async", None, 1, ["sync"]])
def test_unknown_vectorization(vectorization: Any) -> None:
    with pytest.raises(ArgumentError, match=r"vectorization=.*must be one of auto, sync, subprocess, native"):
        open_environments("CartPole-v1", vectorization=vectorization)


@pytest.mark.parametrize("count", [0, -1, True, 2.0, "2", float("nan")])
def test_number_of_environments(count: Any) -> None:
    with pytest.raises(ArgumentError, match=r"n_environments=.*must be an integer of at least 1"):
        open_environments("CartPole-v1", count)


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (None, "there is no environment"),
        (3, "a int is no environment"),
        ([], "holds no environment"),
        ((), "holds no environment"),
        ([None], "there is no environment"),
        (["CartPole-v1", 3], "a int is no environment"),
        ([["CartPole-v1"]], "a list is no environment"),
        ([[]], "a list is no environment"),
        ({"id": "CartPole-v1"}, "a dict is no environment"),
        ([SyncVectorEnv([CartPoleEnv])], "cannot be one of a list"),
        ([DummyVecEnv([CartPoleEnv]), CartPoleEnv], "cannot be one of a list"),
        (lambda: None, "the factory returned a NoneType"),
        (lambda: "CartPole-v1", "the factory returned a str"),
        (lambda: [CartPoleEnv()], "the factory returned a list"),
        (lambda: CartPoleEnv, "the factory returned a"),
        (lambda: SyncVectorEnv([CartPoleEnv]), "the factory returned a SyncVectorEnv"),
        (lambda seed: CartPoleEnv(), "cannot be called without arguments"),
        ([CartPoleEnv, lambda seed: CartPoleEnv()], "cannot be called without arguments"),
        ("CartPol-v1", "CartPole"),
        ("CartPole-v77", "CartPole"),
        ("", "Malformed|malformed|could not make|does not know"),
        ("no_such_package:Env-v0", "no_such_package"),
    ],
)
def test_no_environment_there(source: Any, problem: str) -> None:
    with pytest.raises(EnvironmentSourceError, match=problem) as caught:
        open_environments(source, argument="training_environments")
    assert caught.value.argument == "training_environments"
    assert str(caught.value).startswith("training_environments=")


@pytest.mark.parametrize(
    ("kwargs", "problem"),
    [({"gravitas": 1}, "gravitas"), ([("gravity", 1)], "must be a dictionary"), ("gravity", "must be a dictionary")],
)
@pytest.mark.parametrize("source", ["CartPole-v1", CartPoleEnv])
def test_arguments_that_do_not_fit(source: Any, kwargs: Any, problem: str) -> None:
    with pytest.raises(ArgumentError, match=problem):
        open_environments(source, environment_kwargs=kwargs)


def test_instances_take_no_arguments_and_no_number() -> None:
    with pytest.raises(ArgumentError, match=r"environment_kwargs.*made already"):
        open_environments(CartPoleEnv(), environment_kwargs={"gravity": 1.0})
    with pytest.raises(ArgumentError, match=r"environment_kwargs.*made already"):
        open_environments(["CartPole-v1", CartPoleEnv()], environment_kwargs={"gravity": 1.0})
    with pytest.raises(ArgumentError, match=r"n_environments=2.*holds 1 environment that cannot be copied"):
        open_environments(CartPoleEnv(), 2)
    with pytest.raises(ArgumentError, match=r"n_environments=2.*holds 3 environments"):
        open_environments([CartPoleEnv] * 3, 2)


def test_an_environment_can_have_one_slot_only() -> None:
    environment = Counter()
    for twice in ([environment, environment], [environment, TransformReward(environment, float)]):
        with pytest.raises(EnvironmentSourceError, match="more than once"):
            open_environments(twice)
    with pytest.raises(EnvironmentSourceError, match="more than once"):
        open_environments([Counter(), lambda: environment, lambda: environment])
    assert environment.closed <= 1


def test_an_open_batch_is_not_a_source() -> None:
    with pytest.raises(EnvironmentSourceError, match="open already"):
        open_environments(open_environments("CartPole-v1"))


def test_spaces_must_be_equal() -> None:
    made: list[Any] = []

    def make(kind: Any) -> Any:
        made.append(kind())
        return made[-1]

    class Wider(Counter):
        def __init__(self) -> None:
            super().__init__()
            self.action_space = gymnasium.spaces.Discrete(3)

    own = Counter()
    with pytest.raises(SpaceMismatchError, match="environment 1 has observation_space Dict"):
        open_environments([own, DictWorld()])
    with pytest.raises(SpaceMismatchError, match="environment 2 has action_space") as caught:
        open_environments([own, partial(make, Counter), partial(make, Wider)], argument="evaluation_environment")
    assert caught.value.argument == "evaluation_environment"
    assert (own.closed, [environment.closed for environment in made]) == (0, [1, 1])
    with pytest.raises(SpaceMismatchError, match="the stub environment has observation_space"):
        open_environments((ImageWorld(), partial(make, Counter)))
    assert made[-1].closed == 1


def test_what_was_made_is_closed_when_a_later_one_fails() -> None:
    made = [Counter(), Counter()]
    own = Counter()
    with pytest.raises(EnvironmentSourceError, match="the factory returned a NoneType"):
        open_environments([lambda: made[0], own, lambda: made[1], lambda: None])
    assert [environment.closed for environment in made] == [1, 1]
    assert own.closed == 0


def test_the_callers_environments_stay_open_and_can_be_used_again() -> None:
    own, made, stub = Counter(1.0), Counter(2.0), Counter()
    batch = open_environments([own, lambda: made])
    for _ in range(2):
        batch.close()
    del batch
    assert (own.closed, made.closed) == (0, 1)
    open_environments((stub, Counter)).close()
    assert (stub.closed, stub.resets) == (0, 0)
    vector = SyncVectorEnv([partial(Counter, lengths=(2,))] * 2)
    vec_env = DummyVecEnv([Counter])
    for given in (own, [own], vector, vec_env):
        for _ in range(2):
            again = open_environments(given)
            _run(again)
            again.close()
            del again
    assert own.closed == 0
    assert not vector.closed
    assert [environment.closed for environment in vector.envs] == [0, 0]
    assert vec_env.envs[0].closed == 0


def _reward_wrapped(**kwargs: Any) -> gymnasium.Env[Any, Any]:
    return NormalizeReward(ClipReward(TransformReward(Counter(**kwargs), lambda reward: -10 * reward), -1, 1))


class FrameSkip(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Takes two steps for one."""

    def step(self, action: Any) -> Any:
        total = 0.0
        for _ in range(2):
            observation, reward, terminated, truncated, info = self.env.step(action)
            total += float(reward)
            if terminated or truncated:
                break
        return observation, total, terminated, truncated, info


WRAPPED = {
    "none": Counter,
    "transform": lambda **kwargs: TransformReward(Counter(**kwargs), lambda reward: -reward),
    "clip": lambda **kwargs: ClipReward(Counter(**kwargs), 0, 1),
    "normalize": lambda **kwargs: NormalizeReward(Counter(**kwargs)),
    "stack": _reward_wrapped,
    "skip": lambda **kwargs: FrameSkip(_reward_wrapped(**kwargs)),
}


def _chain(environment: Any) -> list[int]:
    layers = [id(environment)]
    while isinstance(environment, gymnasium.Wrapper):
        environment = environment.env
        layers.append(id(environment))
    return layers


@pytest.mark.parametrize("name", WRAPPED)
def test_returns_are_those_before_reward_wrappers(name: str) -> None:
    environments = [WRAPPED[name](number=1.0, lengths=(4, 3)), WRAPPED[name](number=2.0, lengths=(3,))]
    chains = [_chain(environment) for environment in environments]
    specs = [environment.spec for environment in environments]
    batch = open_environments(environments)
    _, infos = batch.reset_slots()
    ended: list[list[float]] = [[], []]
    for _ in range(14):
        step = batch.step_slots(np.zeros(2, np.int64))
        infos += step.infos + list(step.reset_infos.values())
        for index in np.flatnonzero(step.terminated):
            ended[index].append(step.infos[index]["episode"]["r"])
    assert ended[0][:3] == [10.0, 6.0, 10.0]
    assert ended[1][:3] == [6.0, 6.0, 6.0]
    merged = batch.step(np.zeros(2, np.int64))[-1]
    assert not [key for info in [*infos, merged, merged.get("final_info", {})] for key in info if "rl_framework" in key]
    batch.close()
    assert [_chain(environment) for environment in environments] == chains
    assert [environment.spec for environment in environments] == specs
    assert environments[0].unwrapped.closed == 0


def test_a_reward_wrapper_may_use_what_it_wraps() -> None:
    """The recorder that is put under it stands in for the environment."""

    class Shaped(gymnasium.RewardWrapper[Any, Any]):
        def reward(self, reward: Any) -> float:
            self.env.last = reward  # type: ignore[attr-defined]
            return float(reward) + self.env.potential()  # type: ignore[attr-defined]

    own = Shaped(Counter(lengths=(2,)))
    batch = open_environments(own)
    batch.reset_slots()
    rewards = [batch.step_slots(np.zeros(1, np.int64)).rewards[0] for _ in range(2)]
    assert rewards == [1.5, 2.5]
    assert own.unwrapped.last == 2.0  # type: ignore[attr-defined]
    batch.close()


def test_names_of_sources() -> None:
    assert environment_id_of("CartPole-v1") == "CartPole-v1"
    assert environment_id_of([gymnasium.spec("CartPole-v1")]) == "CartPole-v1"
    assert environment_id_of(gymnasium.make("CartPole-v1")) == "CartPole-v1"
    assert environment_id_of(Counter()) is None
    assert open_environments(lambda: gymnasium.make("CartPole-v1")).environment_id == "CartPole-v1"


def test_what_can_be_made_afresh() -> None:
    for source in (
        "CartPole-v1",
        gymnasium.spec("CartPole-v1"),
        Counter,
        [Counter, "CartPole-v1"],
        (Counter(), Counter),
    ):
        assert can_be_made_afresh(source)
    vectorized = (SyncVectorEnv([Counter]), DummyVecEnv([Counter]))
    for source in (Counter(), [Counter, Counter()], [], None, *vectorized):
        assert not can_be_made_afresh(source)
