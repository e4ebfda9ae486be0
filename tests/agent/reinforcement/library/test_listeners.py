"""Who listens to training hears everything, in order, and cannot be overheard."""

import math

import gymnasium
import numpy as np
import pytest
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from tests.agent.samples import ENVIRONMENTS, PARAMETERS, Sampled, make, same, train, trained, weights

from rl_framework import ArgumentError
from rl_framework.errors import NonFiniteError
from rl_framework.training import (
    Callback,
    CheckpointSaved,
    EpisodeEnded,
    Evaluated,
    RolloutEnded,
    TrainingEnded,
    TrainingFailed,
    TrainingStarted,
    Updated,
)


class Log(Callback):
    def __init__(self):
        self.events = []
        self.steps = []

    def on_event(self, event, training):
        super().on_event(event, training)
        self.events.append(event)

    def on_step(self, training):
        self.steps.append(training.timestep)

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]


class Counting(BaseCallback):
    def __init__(self, most=math.inf):
        super().__init__()
        self.most = most
        self.starts = self.ends = 0

    def _on_training_start(self):
        self.starts += 1

    def _on_training_end(self):
        self.ends += 1

    def _on_step(self):
        return self.n_calls < self.most


@pytest.mark.parametrize("algorithm", PARAMETERS)
def test_events_come_in_order(algorithm, tmp_path):
    log = Log()
    train(
        make(algorithm),
        ENVIRONMENTS[algorithm],
        callbacks=[log],
        evaluate_every=20,
        n_eval_episodes=1,
        checkpoint_every=20,
        checkpoint_directory=tmp_path,
    )
    assert isinstance(log.events[0], TrainingStarted)
    assert isinstance(log.events[-1], TrainingEnded)
    timesteps = [event.timestep for event in log.events]
    assert timesteps == sorted(timesteps)
    assert (timesteps[0], timesteps[-1]) == (0, 48)
    assert log.steps == list(range(1, 49))
    for kind in (RolloutEnded, Updated, Evaluated, CheckpointSaved):
        assert log.of(kind), kind
    assert not log.of(TrainingFailed)
    end = log.events[-1]
    assert (end.interrupted, end.stop_reason) == (False, None)


@pytest.mark.parametrize("as_vec_env", [False, True])
@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
def test_every_episode_is_reported_once_with_its_return_and_length(algorithm, as_vec_env):
    class Paying(Sampled):
        def step(self, action):
            observation, _, *rest = super().step(action)
            return observation, float(self.length), *rest

    environments = [Paying(length=5), Paying(length=7)]
    source = DummyVecEnv([lambda env=env: env for env in environments]) if as_vec_env else environments
    log = Log()
    train(make(algorithm), source, 96, callbacks=[log])
    episodes = log.of(EpisodeEnded)
    for slot, environment in enumerate(environments):
        mine = [event for event in episodes if event.slot == slot]
        assert len(mine) == environment.episodes == 48 // environment.length
        assert {event.length for event in mine} == {environment.length}
        assert {event.episode_return for event in mine} == {float(environment.length**2)}
    assert all(event.metrics["episode/return"] == event.episode_return for event in episodes)


def test_returns_are_what_was_earned_and_not_what_was_learned_from():
    class Paying(Sampled):
        def step(self, action):
            observation, _, *rest = super().step(action)
            return observation, 3.0, *rest

    for source, arguments in [
        (VecNormalize(DummyVecEnv([Paying])), {}),
        (VecNormalize(DummyVecEnv([lambda: Monitor(Paying())])), {}),
        (Paying, {"normalize_rewards": True, "normalize_observations": True}),
        (lambda: gymnasium.wrappers.TransformReward(Paying(), lambda reward: reward / 100), {}),
    ]:
        log = Log()
        train(make(**arguments), source, callbacks=[log])
        assert [event.episode_return for event in log.of(EpisodeEnded)] == pytest.approx([30.0] * 4)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # what the library makes of infinity
@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize(("kind", "number"), [("observation", np.inf), ("observation", np.nan), ("reward", np.inf)])
def test_a_vec_env_of_the_user_is_watched_for_numbers_that_are_not_finite(kind, number, normalized):
    class Broken(Sampled):
        def step(self, action):
            observation, reward, *rest = super().step(action)
            if self.steps == 9:
                return (np.full(3, number), reward, *rest) if kind == "observation" else (observation, number, *rest)
            return observation, reward, *rest

    vec_env = DummyVecEnv([Sampled, Broken])
    agent = make()
    with pytest.raises(NonFiniteError, match=f"environment 1 returned a non-finite {kind} at step 9"):
        train(agent, VecNormalize(vec_env) if normalized else vec_env)


@pytest.mark.parametrize("algorithm", PARAMETERS)
def test_what_the_last_update_measured_is_reported(algorithm):
    log = Log()
    agent = train(make(algorithm), ENVIRONMENTS[algorithm], callbacks=[log])
    last = log.of(Updated)[-1]
    assert last.n_updates == agent.algorithm._n_updates > 0
    losses = [name for name in last.metrics if name.startswith("train/") and "loss" in name]
    assert losses
    assert all(type(value) is float for value in last.metrics.values())


def test_a_callback_stops_training_early():
    class Stop(Callback):
        def on_step(self, training):
            if training.timestep >= 20:
                training.stop("seen enough")

    for algorithm in ("ppo", "dqn"):
        log = Log()
        agent = train(make(algorithm), total_timesteps=1000, callbacks=[Stop(), log])
        assert agent.num_timesteps == 20
        assert log.events[-1].stop_reason == "seen enough"
        assert not log.events[-1].interrupted
        train(agent)
        agent.choose_action(np.zeros(4))


@pytest.mark.parametrize("where", ["on_training_start", "on_step", "on_rollout_end", "on_update", "on_episode_end"])
def test_a_callback_that_fails_ends_training_and_the_others_are_told(where):
    def fail(*_):
        raise OSError("the disk is full")

    failing = type("Failing", (Callback,), {where: fail})()
    before, after = Log(), Log()
    agent = make()
    with pytest.raises(OSError, match="disk is full") as caught:
        train(agent, lambda: Sampled(length=3), callbacks=[before, failing, after])
    for log in (before, after):
        assert isinstance(log.events[-1], TrainingFailed)
        assert log.events[-1].error is caught.value
        assert not log.of(TrainingEnded)
    train(agent, Sampled)


def test_a_failing_environment_is_reported_with_the_error():
    class Fails(Sampled):
        def step(self, action):
            if self.steps == 11:
                raise OSError("the simulator is gone")
            return super().step(action)

    log = Log()
    environment = Fails()
    with pytest.raises(OSError, match="gone") as caught:
        train(make("dqn"), environment, callbacks=[log])
    assert log.events[-1].error is caught.value
    assert log.events[-1].timestep == 11
    assert not environment.closed


def test_nobody_is_told_of_a_training_that_never_began():
    log = Log()
    with pytest.raises(ArgumentError):
        train(make(), [], callbacks=[log])
    assert not log.events


# Callbacks of Stable-Baselines3


@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
def test_callbacks_of_the_library_are_taken(algorithm):
    one, other = Counting(), Counting()
    agent = train(make(algorithm), callbacks=[one, CallbackList([other])])
    for callback in (one, other):
        assert (callback.starts, callback.ends, callback.n_calls) == (1, 1, 48)
        assert callback.model is agent.algorithm
    assert same(weights(agent), weights(train(make(algorithm), seed=agent.seed)))


def test_a_callback_of_the_library_can_end_training():
    log = Log()
    agent = train(make(), total_timesteps=1000, callbacks=[Counting(most=10), log])
    assert agent.num_timesteps == 10
    assert isinstance(log.events[-1], TrainingEnded)


@pytest.mark.filterwarnings("ignore:Training and eval env are not of the same type")
@pytest.mark.parametrize("normalize", [False, True])
def test_the_librarys_evaluation_callback_runs(normalize, tmp_path):
    environment = make_vec_env("CartPole-v1", 1)
    if normalize:
        environment = VecNormalize(environment, training=False, norm_reward=False)
    callback = EvalCallback(
        environment, eval_freq=10, n_eval_episodes=1, log_path=str(tmp_path), best_model_save_path=str(tmp_path)
    )
    agent = train(make("ppo", normalize_observations=normalize), callbacks=[callback])
    assert len(callback.evaluations_timesteps) == 4
    assert (tmp_path / "best_model.zip").exists()
    assert agent.num_timesteps == 48


def test_both_kinds_of_callback_listen_at_once():
    log, counting = Log(), Counting()
    train(make(), callbacks=[counting, log])
    assert counting.n_calls == len(log.steps) == 48


@pytest.mark.parametrize("wrong", [Log, Counting, lambda *_: None, "callback", 3, [Log()]])
def test_what_is_no_callback_is_refused(wrong):
    environment = Sampled()
    for argument in ({"callbacks": [wrong]}, {"callbacks": (Log(), wrong)}):
        with pytest.raises(ArgumentError, match="Give objects, not classes or functions"):
            train(make(), environment, **argument)
    assert environment.resets == 0


def test_a_callback_alone_or_none_will_do():
    log = Log()
    train(make(), callbacks=log)
    assert log.events
    train(make(), callbacks=None)


@pytest.mark.parametrize("wrong", [Log, "tensorboard", Counting(), [Counting()]])
def test_what_is_no_connector_is_refused(wrong):
    with pytest.raises(ArgumentError, match="connector"):
        train(make(), connector=wrong)


def test_connectors_hear_it_too():
    one, other = Log(), Log()
    train(make(), connector=one)
    train(make(), connector=[one, other])
    assert len(one.of(TrainingEnded)) == 2
    assert len(other.of(TrainingEnded)) == 1


def test_the_progress_bar_changes_nothing():
    agent = make().train("CartPole-v1", 48, seed=0)
    assert same(weights(agent), weights(trained("ppo", seed=0)))
