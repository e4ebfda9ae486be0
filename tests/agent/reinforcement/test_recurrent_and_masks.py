"""What acting needs beside the observation: the state of a recurrent policy, and which actions are allowed."""

from copy import deepcopy

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from sb3_contrib import ARS, QRDQN, TQC, TRPO, CrossQ, MaskablePPO, RecurrentPPO
from sb3_contrib.common.wrappers import ActionMasker
from stable_baselines3 import TD3
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor
from tests.agent.reinforcement.matrix_toys import PARAMETERS, Masked
from tests.agent.samples import Sampled, same, train, weights
from tests.environment.toys import Crowd, CrowdAdapter

from rl_framework import ArgumentError, StableBaselinesAgent, load_agent, record_video, registry
from rl_framework.training import Callback, EpisodeEnded, Updated


def make(algorithm, **parameters):
    return StableBaselinesAgent(algorithm, {**PARAMETERS[algorithm], **parameters})


class Drawn(Sampled):
    """Draws frames."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012
    render_mode = "rgb_array"

    def render(self):
        return np.zeros((16, 16, 3), np.uint8)


# Recurrent states


class Echo(gymnasium.Env):
    """Shows a number at the start only, and then asks for it: without memory half of the answers are wrong."""

    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.number, self.left = int(self.np_random.integers(2)), 4
        return np.array([2 * self.number - 1, 1], np.float32), {}

    def step(self, action):
        self.left -= 1
        return np.zeros(2, np.float32), float(action == self.number), self.left == 0, False, {}


@pytest.fixture(scope="module")
def recurrent():
    return train(make("recurrent_ppo"), Echo, 64, n_environments=2, seed=0)


class Spy:
    """Hands calls of `predict` on to an agent, and notes states and episode starts."""

    def __init__(self, agent):
        self._agent, self.states, self.starts, self.observations = agent, [], [], []

    def __getattr__(self, name):
        return getattr(self._agent, name)

    def predict(self, observations, state=None, episode_starts=None, deterministic=True, action_masks=None):
        self.states.append(state)
        self.starts.append(np.copy(episode_starts))
        self.observations.append(np.copy(observations))
        return self._agent.predict(observations, state, episode_starts, deterministic, action_masks)


def observations_of_an_episode(length=20):
    return np.random.default_rng(0).uniform(-1, 1, (length, 2)).astype(np.float32)


def test_a_state_that_is_handed_back_is_what_the_library_carries(recurrent):
    plain, state, mine = recurrent.algorithm, None, None
    for index, observation in enumerate(observations_of_an_episode()):
        expected, state = plain.predict(observation, state, np.array([index == 0]), deterministic=True)
        action, mine = recurrent.choose_action(observation, state=mine)
        assert action == expected
        assert all(np.array_equal(one, other) for one, other in zip(mine, state, strict=True))
    remembered = [np.abs(part).max() for part in mine]
    assert min(remembered) > 0


def test_with_a_state_the_call_returns_one_and_without_it_does_not(recurrent):
    observation = observations_of_an_episode()[0]
    action = recurrent.choose_action(observation)
    assert isinstance(action, int)
    again, state = recurrent.choose_action(observation, state=None)
    assert again == action
    assert [part.shape for part in state] == [(1, 1, 8), (1, 1, 8)]
    memoryless = train(make("ppo"), Echo, 16)
    assert memoryless.choose_action(observation, state=None)[1] is None


def test_the_start_of_an_episode_forgets(recurrent):
    first, second = observations_of_an_episode(2)
    _, state = recurrent.choose_action(first, state=None)
    _, carried = recurrent.choose_action(second, state=state)
    _, anew = recurrent.choose_action(second, state=None)
    _, told = recurrent.choose_action(second, state=state, episode_start=True)
    assert not np.array_equal(carried[0], anew[0])
    assert np.array_equal(told[0], anew[0])
    assert np.array_equal(told[1], anew[1])


def test_a_batch_carries_a_state_for_each_row(recurrent):
    observations = observations_of_an_episode(3)
    actions, state = recurrent.choose_action(observations, state=None)
    assert actions.shape == (3,)
    assert state[0].shape == (1, 3, 8)
    _, later = recurrent.choose_action(observations, state=state, episode_start=[False, True, False])
    for row, starts in enumerate([False, True, False]):
        alone = tuple(part[:, row : row + 1] for part in state)
        _, expected = recurrent.choose_action(observations[row], state=alone, episode_start=starts)
        assert np.allclose(later[0][:, row : row + 1], expected[0], atol=1e-6)


def test_evaluation_carries_states_and_begins_anew_with_each_episode(recurrent):
    from rl_framework.environment import open_environments
    from rl_framework.evaluation import evaluate_policy

    spy = Spy(recurrent)
    batch = open_environments(Echo, 2)
    evaluate_policy(spy, batch, 4, deterministic=True, seed=0, show_progress=False)
    assert spy.states[0] is None
    assert [start.tolist() for start in spy.starts] == [[True] * 2, *[[False] * 2] * 3] * 2
    assert all(state[0].shape == (1, 2, 8) for state in spy.states[1:])
    # The same by hand, with the library alone.
    state = None
    for observations, seen, starts in zip(spy.observations, spy.states, spy.starts, strict=True):
        if state is not None:
            assert all(np.array_equal(one, other) for one, other in zip(state, seen, strict=True))
        _, state = recurrent.algorithm.predict(observations, state, starts, deterministic=True)


def test_a_video_carries_the_state(recurrent):
    class Filmed(Echo):
        metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012
        render_mode = "rgb_array"

        def render(self):
            return np.zeros((16, 16, 3), np.uint8)

    spy = Spy(recurrent)
    record_video(spy, Filmed(), "video.gif", length=9, seed=0)
    assert spy.states[0] is None
    assert all(state is not None for state in spy.states[1:])
    assert [bool(start[0]) for start in spy.starts] == [True, False, False, False] * 2


@pytest.mark.slow
def test_memory_is_learned_evaluated_and_kept():
    """Answering at random gives 2 of 4, and so does any policy that forgets."""
    parameters = {"n_steps": 64, "batch_size": 128, "n_epochs": 10, "learning_rate": 3e-3, "gamma": 0.9}
    agent = train(make("recurrent_ppo", **parameters), Echo, 12_000, n_environments=8, seed=0)
    assert agent.evaluate(Echo, 50, deterministic=True, seed=1).mean == 4
    loaded = load_agent(agent.save_to_file("agent.zip"))
    assert loaded.evaluate(Echo, 50, deterministic=True, seed=1).mean == 4


# Action masks


def violations_after(what):
    Masked.violations = 0
    what()
    return Masked.violations


MASKED_ACTIONS = {
    "discrete": spaces.Discrete(6),
    "multi_discrete": spaces.MultiDiscrete([3, 4]),
    "multi_binary": spaces.MultiBinary(3),
}


class DrawnMasked(Drawn, Masked):
    pass


@pytest.mark.parametrize("kind", MASKED_ACTIONS)
def test_no_forbidden_action_is_ever_taken(kind):
    def made():
        return DrawnMasked(action_space=deepcopy(MASKED_ACTIONS[kind]))

    agent = make("maskable_ppo")
    assert violations_after(lambda: train(agent, made, 64, n_environments=2, seed=0)) == 0
    for deterministic in (True, False):
        assert violations_after(lambda: agent.evaluate(made, 4, deterministic=deterministic, seed=0)) == 0  # noqa: B023
        assert violations_after(lambda: record_video(agent, made(), "video.gif", 20, deterministic=deterministic)) == 0  # noqa: B023
    # The count counts: an agent that knows no masks is caught.
    other = train(make("ppo"), made, 16)
    assert violations_after(lambda: other.evaluate(made, 4, seed=0)) > 0


def test_masks_that_come_with_the_infos_will_do():
    taken = []

    class Watched(gymnasium.Wrapper):
        def reset(self, **arguments):
            observation, info = self.env.reset(**arguments)
            self.mask = info["action_mask"]
            return observation, info

        def step(self, action):
            taken.append(bool(self.mask[action]))
            observation, reward, terminated, truncated, info = self.env.step(action)
            self.mask = info["action_mask"]
            return observation, reward, terminated, truncated, info

    def made():
        return Watched(gymnasium.make("Taxi-v3", render_mode="rgb_array", max_episode_steps=20))

    agent = train(make("maskable_ppo"), made, 64, n_environments=2, seed=0)
    trained = len(taken)
    agent.evaluate(made, 2, seed=0)
    evaluated = len(taken)
    record_video(agent, made(), "video.gif", 5, deterministic=False)
    assert 0 < trained < evaluated < len(taken)
    assert all(taken)


@pytest.mark.parametrize("vectorization", ["sync", "subprocess"])
def test_masks_come_through_processes(vectorization):
    agent = train(make("maskable_ppo"), Masked, 32, n_environments=2, seed=0, vectorization=vectorization)
    plain = MaskablePPO("MlpPolicy", make_vec_env(Masked, 2), seed=0, **deepcopy(PARAMETERS["maskable_ppo"])).learn(32)
    assert same(weights(agent), weights(plain))


def test_choosing_an_action_obeys_the_mask():
    agent = train(make("maskable_ppo"), lambda: Masked(action_space=spaces.Discrete(4)), 16)
    observation = agent.observation_space.sample()
    for allowed in range(4):
        mask = np.arange(4) == allowed
        assert agent.choose_action(observation, action_masks=mask) == allowed
        assert agent.choose_action(observation, False, action_masks=mask.tolist()) == allowed
    assert agent.choose_action([observation] * 4, action_masks=np.eye(4, dtype=bool)).tolist() == [0, 1, 2, 3]
    for wrong in (np.ones(3, bool), np.ones((2, 4), bool), True):
        with pytest.raises(ArgumentError, match="action_masks"):
            agent.choose_action(observation, action_masks=wrong)
    with pytest.raises(ArgumentError, match=r"give \(4, 4\)"):
        agent.choose_action([observation] * 4, action_masks=np.ones(4, bool))
    action, state = agent.choose_action(observation, state=None, action_masks=np.arange(4) == 2)
    assert (action, state) == (2, None)
    assert agent.choose_action(observation) in range(4)  # without a mask everything is allowed


def test_a_mask_that_nobody_uses_is_refused():
    agent = train(make("ppo"), Sampled, 16)
    with pytest.raises(ArgumentError, match="maskable_ppo"):
        agent.choose_action(agent.observation_space.sample(), action_masks=np.ones(2, bool))


@pytest.mark.parametrize("form", ["factory", "environment", "vec_env"])
def test_environments_without_masks_are_refused_before_the_first_step(form):
    environment = Sampled()
    given = {"factory": lambda: environment, "environment": environment, "vec_env": DummyVecEnv([lambda: environment])}
    with pytest.raises(ArgumentError, match="ActionMasker") as caught:
        train(make("maskable_ppo"), given[form])
    assert caught.value.argument == "training_environments"
    assert environment.steps == 0
    agent = train(make("maskable_ppo"), Masked, 16)
    with pytest.raises(ArgumentError, match="ActionMasker"):
        agent.evaluate(given[form], 1)


def test_the_remedy_helps():
    def wrapped():
        return ActionMasker(Sampled(), lambda environment: np.array([False, True]))

    for environments in (wrapped, DummyVecEnv([wrapped])):
        agent = train(make("maskable_ppo"), environments, 16)
        assert agent.evaluate(environments, 2).lengths.tolist() == [10, 10]


# Slots that can be empty


class MaskedCrowd(CrowdAdapter):
    """Allows the actions by turns, and takes note of those that are taken."""

    taken: list[bool] = []  # noqa: RUF012

    @classmethod
    def accepts(cls, source):
        return False

    def setup(self, source, n_slots=3):
        super().setup(Crowd(n_slots), n_slots)
        self.turn = 0

    def _with_masks(self, infos):
        self.turn += 1
        for info in infos:
            info["action_mask"] = np.arange(2) == self.turn % 2

    def reset(self, *, seed=None, options=None):
        observations, infos, present = super().reset(seed=seed)
        self._with_masks(infos)
        return observations, infos, present

    def step(self, action):
        self.taken.extend(one == self.turn % 2 for one in action if one is not None)
        step = super().step(action)
        self._with_masks(step.infos)
        for index in step.reset_infos:
            step.reset_infos[index] = step.infos[index]
        return step


@pytest.fixture
def crowds(monkeypatch):
    monkeypatch.setattr(registry.environment_adapters, "_entries", dict(registry.environment_adapters._entries))
    registry.register_environment_adapter("toy_crowd", CrowdAdapter)
    registry.register_environment_adapter("masked_crowd", MaskedCrowd)


@pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
@pytest.mark.usefixtures("crowds")
def test_masked_agents_learn_from_present_slots_only(monkeypatch):
    from rl_framework.agent.reinforcement.library.buffers.present_maskable_buffers import PresentMaskableRolloutBuffer

    seen = []
    get = PresentMaskableRolloutBuffer.get

    def spy(self, batch_size=None):
        for batch in get(self, batch_size):
            seen.append(batch)
            yield batch

    monkeypatch.setattr(PresentMaskableRolloutBuffer, "get", spy)
    MaskedCrowd.taken.clear()
    agent = train(make("maskable_ppo", n_epochs=1), "masked_crowd", 96, seed=0)
    assert type(agent.algorithm.rollout_buffer) is PresentMaskableRolloutBuffer
    assert all(MaskedCrowd.taken)
    assert len(MaskedCrowd.taken) == agent.num_timesteps == sum(len(batch.actions) for batch in seen)
    observations = np.concatenate([batch.observations.numpy() for batch in seen])
    assert (observations[:, 0] >= 0).all()  # those of empty slots are far below
    for batch in seen:
        allowed = batch.action_masks.numpy()[np.arange(len(batch.actions)), batch.actions.numpy().flatten().astype(int)]
        assert allowed.all()


@pytest.mark.usefixtures("crowds")
@pytest.mark.parametrize("algorithm", ["recurrent_ppo", "ars"])
def test_algorithms_that_need_unbroken_episodes_refuse_slots_that_can_be_empty(algorithm):
    crowd = Crowd()
    with pytest.raises(ArgumentError, match=r"unbroken episodes.*ppo"):
        train(make(algorithm), crowd)
    assert not crowd.transitions
    agent = train(make(algorithm), lambda: Sampled(spaces.Box(-2000, 2000, (3,))), 16, n_environments=3)
    with pytest.raises(ArgumentError, match="hold nobody"):
        train(agent, crowd)
    assert not crowd.transitions


@pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
@pytest.mark.usefixtures("crowds")
def test_a_masked_agent_may_go_on_where_slots_can_be_empty():
    agent = train(make("maskable_ppo"), lambda: Masked(spaces.Box(-2000, 2000, (3,))), 48, n_environments=3)
    before = weights(agent)
    train(agent, "masked_crowd", 48)
    assert type(agent.algorithm.rollout_buffer).__name__ == "PresentMaskableRolloutBuffer"
    assert not same(weights(agent), before)


# The same as the libraries

LIBRARY = {
    "td3": (TD3, "Pendulum-v1"),
    "maskable_ppo": (MaskablePPO, Masked),
    "recurrent_ppo": (RecurrentPPO, "CartPole-v1"),
    "qrdqn": (QRDQN, "CartPole-v1"),
    "tqc": (TQC, "Pendulum-v1"),
    "crossq": (CrossQ, "Pendulum-v1"),
    "trpo": (TRPO, "CartPole-v1"),
    "ars": (ARS, "CartPole-v1"),
}


@pytest.mark.parametrize("n_environments", [1, 2])
@pytest.mark.parametrize("algorithm", LIBRARY)
def test_the_weights_are_those_of_the_library_alone(algorithm, n_environments):
    library, environment = LIBRARY[algorithm]
    policy = "MlpLstmPolicy" if algorithm == "recurrent_ppo" else "MlpPolicy"
    vec_env = make_vec_env(environment, n_environments)
    plain = library(policy, vec_env, seed=7, **deepcopy(PARAMETERS[algorithm])).learn(96)
    agent = train(make(algorithm), environment, 96, n_environments=n_environments, seed=7)
    assert same(weights(agent), weights(plain))
    assert agent.num_timesteps == plain.num_timesteps
    assert agent.algorithm._n_updates == plain._n_updates > 0


# ARS, which goes its own way


class Log(Callback):
    def __init__(self, stop_after=None):
        self.episodes, self.updates, self.stop_after = [], [], stop_after

    def on_event(self, event, training):
        if isinstance(event, EpisodeEnded):
            self.episodes.append(event)
            if len(self.episodes) == self.stop_after:
                training.stop("enough")
        if isinstance(event, Updated):
            self.updates.append(event.metrics)


LENGTH = 5


def short():
    return Sampled(length=LENGTH)


def test_schedules_of_ars_stay_positive_when_training_goes_on():
    linear = {"type": "linear", "start": 1.0, "end": 0.0}
    agent, log = make("ars", learning_rate=linear, delta_std=linear), Log()
    for _ in range(3):
        train(agent, short, 100, callbacks=[log], seed=0 if not agent.num_timesteps else None)
    assert agent.num_timesteps == 300
    for name in ("train/learning_rate", "train/delta_std"):
        rates = [metrics[name] for metrics in log.updates if name in metrics]
        assert len(rates) == 15
        assert all(0 < rate <= 1 for rate in rates)
        assert rates[5:10] == pytest.approx([1 - (100 + 20 * i) / 200 for i in range(5)])


def test_ars_stops_when_it_is_asked_to_and_can_go_on():
    log = Log(stop_after=7)
    agent = train(make("ars"), short, 10_000, callbacks=[log], seed=0)
    assert len(log.episodes) == 7
    assert agent.num_timesteps <= 7 * LENGTH + 1
    before = weights(agent)
    train(agent, short, 100)
    assert not same(weights(agent), before)


@pytest.mark.parametrize("form", ["factory", "vec_env", "monitored"])
@pytest.mark.parametrize(("n_environments", "n_eval_episodes"), [(1, 1), (1, 2), (2, 2)])
def test_ars_reports_every_episode_once(form, n_environments, n_eval_episodes):
    # The shorter one is in the middle of an episode when the next candidate begins anew.
    made = [Sampled(length=length) for length in (5, 3)[:n_environments]]
    environments = made if form == "factory" else DummyVecEnv([lambda one=one: one for one in made])
    if form == "monitored":
        environments = VecMonitor(environments)
    log = Log()
    train(make("ars", n_eval_episodes=n_eval_episodes), environments, 60, callbacks=[log], seed=0)
    assert len(log.episodes) == sum(environment.episodes for environment in made) > 0
    assert {(event.slot, event.length) for event in log.episodes} == {
        (slot, environment.length) for slot, environment in enumerate(made)
    }


def test_a_callback_of_the_library_sees_the_steps_of_ars():
    class Sees(BaseCallback):
        def _on_step(self):
            assert self.locals["rewards"].shape == self.locals["dones"].shape == (1,)
            assert len(self.locals["infos"]) == 1
            return True

    train(make("ars"), short, 20, callbacks=[Sees()])


@pytest.mark.parametrize("zero_policy", [True, False])
def test_ars_goes_on_from_its_own_weights_after_loading(zero_policy):
    agent = train(make("ars", learning_rate=0.5, zero_policy=zero_policy), short, 40, seed=0)
    loaded = load_agent(agent.save_to_file("agent.zip"))
    assert same(weights(loaded), weights(agent))
    assert np.array_equal(loaded.algorithm.weights.numpy(), agent.algorithm.weights.numpy())
    train(loaded, short, 20)
    assert not same(weights(loaded), weights(agent))
    assert loaded.num_timesteps == 60
