"""Behavioural cloning does what the imitation library's does, can be continued at any batch, and reads lazily."""

import math
import tracemalloc

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from imitation.algorithms.bc import BehaviorCloningLossCalculator
from imitation.policies.base import FeedForward32Policy
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import nn

import rl_framework
from rl_framework.agent.imitation.library.batch_order import BatchOrder
from rl_framework.agent.imitation.library.behavioural_cloning import BehaviouralCloning
from rl_framework.agent.imitation.library.cloning_policy import build_bc_policy, channels_first
from rl_framework.agent.imitation.library.transition_tensors import TransitionTensors
from rl_framework.episode.episode import Episode
from rl_framework.episode.sequence import EpisodeSequence
from rl_framework.errors import ArgumentError, UnknownNameError, UnsupportedSpaceError

VECTOR = spaces.Box(-np.inf, np.inf, (5,), np.float32)
IMAGE = spaces.Box(0, 255, (36, 40, 3), np.uint8)
ACTIONS = {
    "discrete": spaces.Discrete(3),
    "box": spaces.Box(-1.0, 1.0, (2,), np.float32),
    "box of two axes": spaces.Box(-1.0, 1.0, (2, 3), np.float64),
    "multi-discrete": spaces.MultiDiscrete([3, 2]),
    "multi-binary": spaces.MultiBinary(4),
}
# By observation space, besides the plain one.
OBSERVATIONS = {
    "float64": spaces.Box(-1.0, 1.0, (2, 3), np.float64),
    "discrete": spaces.Discrete(7),
    "multi-discrete": spaces.MultiDiscrete([3, 4]),
    "multi-binary": spaces.MultiBinary(3),
    "unsigned": spaces.Box(0, 60_000, (3,), np.uint16),
    "image": IMAGE,
    "dict": spaces.Dict({"camera": IMAGE, "place": spaces.Discrete(4), "speed": VECTOR}),
}


def sample(space, count, seed):
    space = type(space)(space.spaces) if isinstance(space, spaces.Dict) else space
    space.seed(seed)
    values = [space.sample() for _ in range(count)]
    if isinstance(space, spaces.Dict):
        return {key: np.stack([value[key] for value in values]) for key in space.spaces}
    return np.stack(values)


def recorded(observation_space=VECTOR, action_space=ACTIONS["discrete"], lengths=(20, 1, 12, 31), seed=0):
    """Episodes of random observations and actions."""
    episodes = []
    for index, length in enumerate(lengths):
        observations = sample(observation_space, length + 1, seed + index)
        actions = sample(action_space, length, seed + index)
        episodes.append(Episode(observations, actions, np.zeros(length), terminated=True, truncated=False))
    return EpisodeSequence.from_episodes(episodes, observation_space, action_space)


def cloning(sequence, policy=None, seed=1, policy_kwargs=None, **arguments):
    built = build_bc_policy(sequence.observation_space, sequence.action_space, policy, policy_kwargs, None, seed, "cpu")
    return BehaviouralCloning(built, sequence.transitions(), **arguments)


def train(learner, n_batches):
    for _ in learner.train_batches(n_batches, measure_every=0):
        pass


def weights(policy):
    return {name: tensor.clone() for name, tensor in policy.state_dict().items()}


def largest_difference(one, other):
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)


def as_the_library_takes_it(policy, batch):
    """Observations and actions of a gathered batch as a data loader of the imitation library gives them."""

    def tensor(array, space):
        if array.shape[1:] != space.shape:
            array = array.transpose(0, 3, 1, 2)
        return torch.as_tensor(array.astype(np.int64) if array.dtype == np.uint16 else array)

    space = policy.observation_space
    if isinstance(space, spaces.Dict):
        observations = {key: tensor(array, space[key]) for key, array in batch.observations.items()}
    else:
        observations = tensor(batch.observations, space)
    actions = torch.as_tensor(batch.actions)
    if isinstance(policy.action_space, spaces.Box):  # it cannot take more than one axis
        actions = actions.float().flatten(1)
    return observations, actions.float() if isinstance(policy.action_space, spaces.MultiBinary) else actions


class Library:
    """The library's loss and the loop around it, on the batches of a learner of ours."""

    def __init__(self, learner, sequence, ent_weight=1e-3, l2_weight=0.0, optimizer=torch.optim.Adam, **settings):
        self.learner, self.transitions = learner, sequence.transitions()
        self.policy = build_bc_policy(sequence.observation_space, sequence.action_space, device="cpu")
        kind, arguments = type(learner.policy), learner.policy._get_constructor_parameters()
        self.policy = kind(**{**arguments, "lr_schedule": lambda _: 1.0})
        self.policy.load_state_dict(learner.policy.state_dict())
        self.loss = BehaviorCloningLossCalculator(ent_weight, l2_weight)
        self.optimizer = optimizer(self.policy.parameters(), **settings)

    def train_batch(self, number):
        learner = self.learner
        parts = learner.batch_size // learner.minibatch_size
        self.optimizer.zero_grad()
        for index in range(number * parts, (number + 1) * parts):
            batch = self.transitions.gather(learner._order.rows(index).numpy().astype(np.int64))
            metrics = self.loss(self.policy, *as_the_library_takes_it(self.policy, batch))
            (metrics.loss * learner.minibatch_size / learner.batch_size).backward()
        gradients = [None if p.grad is None else p.grad.clone() for p in self.policy.parameters()]
        self.optimizer.step()
        return metrics, gradients


def check_against_library(learner, library, n_batches=4, tolerance=1e-6):
    """Weights within a hundredth of a step: Adam divides by the gradient, also where that is nearly zero."""
    for number in range(n_batches):
        metrics, gradients = library.train_batch(number)
        measured = learner.train_batch(measure=True)
        for name, value in vars(metrics).items():
            assert measured[f"bc/{name}"] == pytest.approx(float(value.detach()), rel=tolerance, abs=tolerance), name
        for mine, theirs in zip(learner.policy.parameters(), gradients, strict=True):
            assert torch.allclose(mine.grad, torch.zeros_like(mine) if theirs is None else theirs, atol=tolerance)
    step = library.optimizer.param_groups[0]["lr"]
    assert largest_difference(weights(learner.policy), weights(library.policy)) < step / 100


# The same as the library


@pytest.mark.parametrize("traced", [False, True], ids=["by hand", "traced"])
@pytest.mark.parametrize("action_space", ACTIONS.values(), ids=ACTIONS.keys())
def test_losses_gradients_and_weights_are_the_librarys(action_space, traced):
    sequence = recorded(action_space=action_space)
    learner = cloning(sequence, batch_size=16, ent_weight=0.05)
    assert learner._plain is not None
    if traced:
        learner._plain = None
    check_against_library(learner, Library(learner, sequence, ent_weight=0.05))


@pytest.mark.filterwarnings("ignore:trying to unwrap")  # the library, by its own doing
@pytest.mark.parametrize("observation_space", OBSERVATIONS.values(), ids=OBSERVATIONS.keys())
def test_every_observation_space(observation_space):
    sequence = recorded(observation_space, lengths=(9, 4))
    learner = cloning(sequence, batch_size=4)
    images = isinstance(observation_space, spaces.Dict) or observation_space is IMAGE
    assert (learner._plain is None) == images
    check_against_library(learner, Library(learner, sequence), n_batches=2)


@pytest.mark.parametrize(
    ("policy", "policy_kwargs", "by_hand"),
    [
        ("MlpPolicy", {"activation_fn": "relu", "net_arch": [8, 8, 8]}, True),
        ("MlpPolicy", {"net_arch": []}, True),
        ("MlpPolicy", {"share_features_extractor": False}, True),
        ("MlpPolicy", {"activation_fn": "elu"}, False),
        ("MlpPolicy", {"activation_fn": "elu", "share_features_extractor": False}, False),
        ("MlpPolicy", {"use_sde": True}, False),
        ("MlpPolicy", {"use_sde": True, "squash_output": True}, False),
    ],
    ids=["relu", "linear", "two extractors", "elu", "elu, two extractors", "gsde", "squashed"],
)
def test_other_networks(policy, policy_kwargs, by_hand):
    sequence = recorded(action_space=ACTIONS["box"])
    learner = cloning(sequence, policy, policy_kwargs=policy_kwargs, batch_size=16)
    assert (learner._plain is not None) == by_hand
    library = Library(learner, sequence)
    if policy_kwargs.get("squash_output"):
        metrics, _ = library.train_batch(0)
        measured = learner.train_batch(measure=True)
        assert metrics.entropy is None
        assert "bc/entropy" not in measured
        assert measured["bc/loss"] == pytest.approx(float(metrics.loss.detach()))
    else:
        check_against_library(learner, library)


class HalvedFeatures(ActorCriticPolicy):
    """Computes in a way of its own, which only some of the library's methods follow."""

    def extract_features(self, obs, features_extractor=None):
        return super().extract_features(obs, features_extractor) * 0.5


def test_a_policy_that_computes_in_its_own_way_is_asked_as_the_library_asks_it():
    rl_framework.register_policy("halved_features", HalvedFeatures, replace=True)
    sequence = recorded(action_space=ACTIONS["box"])
    learner = cloning(sequence, HalvedFeatures, policy_kwargs={"net_arch": [8]}, batch_size=16)
    check_against_library(learner, Library(learner, sequence))


@pytest.mark.parametrize("traced", [False, True], ids=["by hand", "traced"])
@pytest.mark.parametrize("action_space", ["discrete", "box"])
def test_minibatches_are_summed_and_parameters_kept_small(action_space, traced):
    sequence = recorded(action_space=ACTIONS[action_space])
    learner = cloning(sequence, batch_size=24, minibatch_size=8, l2_weight=0.3)
    if traced:
        learner._plain = None
    check_against_library(learner, Library(learner, sequence, l2_weight=0.3))


@pytest.mark.parametrize("name", ["adamw", "sgd", "rmsprop", "adadelta"])
def test_optimizers_move_the_same_parameters(name):
    """The value network, which the loss does not reach, included: the decay of AdamW moves it."""
    sequence = recorded()
    settings = {"lr": 0.01, "momentum": 0.9} if name == "sgd" else {"lr": 0.01}
    learner = cloning(sequence, batch_size=16, optimizer_cls=name, optimizer_kwargs=settings)
    kind = rl_framework.registry.optimizers.get(name)
    before = weights(learner.policy)
    check_against_library(learner, Library(learner, sequence, optimizer=kind, **settings))
    moved = largest_difference(*({"w": side["value_net.weight"]} for side in (before, weights(learner.policy))))
    assert (moved > 0) == (name == "adamw")


def test_long_training_stays_with_the_library():
    sequence = recorded(lengths=(200, 300))
    learner = cloning(sequence, batch_size=32)
    library = Library(learner, sequence)
    for number in range(60):
        library.train_batch(number)
    train(learner, 60)
    assert largest_difference(weights(learner.policy), weights(library.policy)) < 1e-5


def test_learns_a_rule():
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(1001, 5)).astype(np.float32)
    actions = (observations[:-1, 0] > observations[:-1, 3]).astype(np.int64)
    episode = Episode(observations, actions, np.zeros(1000), terminated=False, truncated=True)
    sequence = EpisodeSequence.from_episodes([episode], VECTOR, spaces.Discrete(2))
    learner = cloning(sequence, optimizer_kwargs={"lr": 0.01})
    before = learner.evaluate(sequence.transitions())
    train(learner, 300)
    after = learner.evaluate(sequence.transitions())
    assert before["accuracy"] < 0.7
    assert after["accuracy"] > 0.95
    assert after["neglogp"] < before["neglogp"] / 3


@pytest.mark.parametrize("traced", [False, True], ids=["by hand", "traced"])
def test_divergence_is_an_error(traced):
    learner = cloning(recorded(action_space=ACTIONS["box"]), optimizer_cls="sgd", optimizer_kwargs={"lr": 1e20})
    if traced:
        learner._plain = None
    with pytest.raises(ArgumentError, match=r"diverged: after 500 batches.*smaller learning rate"):
        train(learner, 600)
    assert torch.distributions.Distribution._validate_args


# Order


@pytest.mark.parametrize("epoch", [0, 3])
def test_every_transition_comes_once_an_epoch(epoch):
    order = BatchOrder(103, 10, 5)
    assert order.batches_per_epoch == 10
    seen = torch.cat([order.rows(epoch * 10 + batch) for batch in range(10)])
    assert len(set(seen.tolist())) == 100
    assert seen.min() >= 0
    assert seen.max() <= 102


def test_order_is_a_function_of_seed_and_index():
    forwards, backwards = BatchOrder(50, 7, 5, 2), BatchOrder(50, 7, 5, 2)
    expected = [forwards.rows(index) for index in range(30)]
    for index in reversed(range(30)):
        assert torch.equal(backwards.rows(index), expected[index])
    assert not torch.equal(BatchOrder(50, 7, 6, 2).rows(0), expected[0])
    assert not torch.equal(expected[0], expected[7])  # another epoch


def test_a_batch_needs_enough_transitions():
    with pytest.raises(ArgumentError, match=r"batch_size=65.*64 transitions"):
        cloning(recorded(), batch_size=65)
    with pytest.raises(ArgumentError, match=r"minibatch_size=5.*divide"):
        cloning(recorded(), batch_size=32, minibatch_size=5)


# Resuming


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
@pytest.mark.parametrize("action_space", ["discrete", "box"])
def test_resumes_bit_for_bit_within_an_epoch(action_space, optimizer):
    sequence = recorded(action_space=ACTIONS[action_space])
    settings = {"batch_size": 10, "minibatch_size": 5, "optimizer_cls": optimizer, "seed": 3}
    whole = cloning(sequence, **settings)
    train(whole, 17)
    first = cloning(sequence, **settings)
    train(first, 9)
    assert first._position % first.n_minibatches_per_epoch > 0
    tensors = {}
    state = first.state(tensors)
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    kept = weights(first.policy)
    train(first, 3)  # what was taken must not change with it

    second = cloning(sequence, **settings)
    second.policy.load_state_dict(kept)
    second.restore(state, tensors)
    assert (second.n_batches, second.epoch) == (9, 1)
    train(second, 8)
    assert largest_difference(weights(whole.policy), weights(second.policy)) == 0.0


def test_measuring_changes_nothing():
    sequence = recorded(action_space=ACTIONS["box"])
    silent, measured = cloning(sequence, batch_size=8), cloning(sequence, batch_size=8)
    train(silent, 10)
    found = [metrics for metrics in measured.train_batches(10, measure_every=3) if metrics]
    measured.evaluate(sequence.transitions())
    assert [metrics["bc/batch"] for metrics in found] == [0, 3, 6, 9]
    assert [metrics["bc/samples_so_far"] for metrics in found] == [8, 32, 56, 80]
    assert [metrics["bc/epoch"] for metrics in found] == [0, 0, 0, 1]
    assert largest_difference(weights(silent.policy), weights(measured.policy)) == 0.0


def test_refuses_a_state_of_other_transitions():
    first, other = cloning(recorded()), cloning(recorded(lengths=(40, 30)))
    tensors = {}
    state = first.state(tensors)
    with pytest.raises(ValueError, match="n_transitions=64, and here it is 70"):
        other.restore(state, tensors)
    with pytest.raises(ValueError, match="position"):
        first.restore({**state, "position": -1}, tensors)


def test_goes_on_with_a_longer_data_set():
    """As DAgger does after each round."""
    short, long = recorded(), recorded() + recorded(seed=50)
    learner = cloning(short, batch_size=16)
    train(learner, 6)
    learner.set_transitions(long.transitions())
    assert learner.n_minibatches_per_epoch == 8
    train(learner, 5)
    tensors = {}
    state = learner.state(tensors)
    resumed = cloning(long, batch_size=16)
    resumed.policy.load_state_dict(weights(learner.policy))
    resumed.restore(state, {name: tensor.clone() for name, tensor in tensors.items()})
    train(learner, 5)
    train(resumed, 5)
    assert learner.n_batches == 16
    assert largest_difference(weights(learner.policy), weights(resumed.policy)) == 0.0


# Validation


def test_validation_by_hand():
    sequence = recorded(lengths=(7, 6))
    learner = cloning(sequence, batch_size=4)
    batch = sequence.transitions().all()
    with torch.no_grad():
        logits = learner.policy.action_net(
            learner.policy.mlp_extractor.policy_net(torch.from_numpy(batch.observations))
        ).numpy()
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    taken = probabilities[np.arange(13), batch.actions]
    found = learner.evaluate(sequence.transitions(), batch_size=5)
    assert found == pytest.approx(
        {
            "neglogp": float(-np.log(taken).mean()),
            "prob_true_act": float(taken.mean()),
            "entropy": float(-(probabilities * np.log(probabilities)).sum(1).mean()),
            "accuracy": float((probabilities.argmax(1) == batch.actions).mean()),
        },
        rel=1e-5,
    )


def test_validation_of_continuous_actions_by_hand():
    sequence = recorded(action_space=ACTIONS["box"], lengths=(7, 6))
    learner = cloning(sequence, batch_size=4)
    with torch.no_grad():
        learner.policy.action_net.bias.copy_(torch.tensor([2.0, -0.1]))  # the first is outside its bounds
        learner.policy.log_std.copy_(torch.tensor([0.3, -0.5]))
        latent = learner.policy.mlp_extractor.policy_net(torch.from_numpy(sequence.transitions().all().observations))
        means = learner.policy.action_net(latent).double().numpy()
    actions, deviations = sequence.transitions().all().actions.astype(np.float64), np.exp([0.3, -0.5])
    log_prob = (-(((actions - means) / deviations) ** 2) / 2 - np.log(deviations) - math.log(2 * math.pi) / 2).sum(1)
    assert learner.evaluate(sequence.transitions(), batch_size=5) == pytest.approx(
        {
            "neglogp": float(-log_prob.mean()),
            "prob_true_act": float(np.exp(log_prob).mean()),
            "entropy": float(np.sum(0.5 + 0.5 * math.log(2 * math.pi) + np.log(deviations))),
            "mse": float(((np.clip(means, -1, 1) - actions) ** 2).mean()),
        },
        rel=1e-5,
    )
    assert learner.policy.training


@pytest.mark.parametrize("action_space", ["multi-discrete", "multi-binary", "box of two axes"])
def test_validation_of_other_actions(action_space):
    sequence = recorded(action_space=ACTIONS[action_space])
    learner = cloning(sequence, batch_size=4)
    found = learner.evaluate(sequence.transitions())
    batch = sequence.transitions().all()
    acted, _ = learner.policy.predict(batch.observations, deterministic=True)
    if action_space == "box of two axes":
        assert found["mse"] == pytest.approx(float(((acted - batch.actions) ** 2).mean()), rel=1e-5)
    else:
        assert found["accuracy"] == pytest.approx(float((acted == batch.actions).all(1).mean()))


# Data


@pytest.mark.parametrize("observation_space", [VECTOR, OBSERVATIONS["dict"]], ids=["vector", "dict"])
def test_small_large_and_joined_data_give_the_same_batches(observation_space, tmp_path):
    one, two = recorded(observation_space, lengths=(5, 3)), recorded(observation_space, lengths=(4, 2), seed=9)
    one.save(tmp_path / "one")
    joined, mapped = one + two, EpisodeSequence.load(tmp_path / "one")
    rows = torch.tensor([6, 0, 7, 3], dtype=torch.int32)
    space, device = channels_first(observation_space), torch.device("cpu")
    reference = None
    for sequence in (joined, one, mapped):
        for kept in (0, 1 << 30):
            data = TransitionTensors(sequence.transitions(), space, sequence.action_space, device, kept)
            observations, actions = data.gather(rows)
            found = {"actions": actions, **(observations if isinstance(observations, dict) else {"": observations})}
            reference = reference or found
            assert all(torch.equal(found[name], reference[name]) for name in reference)
    expected = one.transitions().gather(rows.numpy())
    assert np.array_equal(reference["actions"], expected.actions)
    if isinstance(observation_space, spaces.Dict):
        assert np.array_equal(reference["camera"].permute(0, 2, 3, 1), expected.observations["camera"])


def test_memory_is_bounded_by_the_batch(tmp_path):
    """90 MB of images, of which a batch has 0.3 MB."""
    space = spaces.Box(0, 255, (100, 100, 3), np.uint8)
    image = np.zeros((1001, 100, 100, 3), np.uint8)
    parts = (Episode(image, np.ones(1000, np.int64), np.zeros(1000), True, False) for _ in range(3))
    EpisodeSequence.from_episode_generator(parts, 3, observation_space=space, action_space=spaces.Discrete(2)).save(
        tmp_path / "images"
    )
    del image, parts
    sequence = EpisodeSequence.load(tmp_path / "images")
    policy = build_bc_policy(space, sequence.action_space, "MlpPolicy", {"net_arch": [4]}, seed=0, device="cpu")
    tracemalloc.start()
    learner = BehaviouralCloning(policy, sequence.transitions(), batch_size=10)
    train(learner, 3)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert learner._data._kept is None
    assert peak < 5e6


def test_actions_outside_of_the_space_are_refused():
    sequence = recorded(action_space=spaces.Discrete(5))
    policy = build_bc_policy(VECTOR, spaces.Discrete(3), device="cpu")
    with pytest.raises(ArgumentError, match=r"not in Discrete\(3\)"):
        BehaviouralCloning(policy, sequence.transitions())


@pytest.mark.parametrize("space", [spaces.Box(-1, 1, (4,)), OBSERVATIONS["dict"]], ids=["another shape", "a dict"])
def test_observations_of_another_kind_are_refused(space):
    policy = build_bc_policy(space, spaces.Discrete(3), device="cpu")
    with pytest.raises(ArgumentError, match="observations need the"):
        BehaviouralCloning(policy, recorded().transitions())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"optimizer_cls": "adamm"}, UnknownNameError, "adam"),
        ({"optimizer_cls": nn.Linear}, ArgumentError, "no optimizer class"),
        ({"optimizer_kwargs": {"weight_decay": 0.1}}, ArgumentError, "l2_weight"),
        ({"optimizer_kwargs": {"learning_rate": 0.1}}, ArgumentError, "Adam does not take them"),
    ],
    ids=["unknown", "no optimizer", "weight decay", "unknown argument"],
)
def test_optimizers_that_cannot_be(arguments, error, message):
    with pytest.raises(error, match=message):
        cloning(recorded(), **arguments)


# Policies


def test_default_policy_is_the_librarys():
    torch.manual_seed(11)
    theirs = FeedForward32Policy(VECTOR, ACTIONS["box"], lambda _: 1.0)
    state = torch.get_rng_state()
    ours = build_bc_policy(VECTOR, ACTIONS["box"], seed=11, device="cpu")
    assert largest_difference(weights(ours), weights(theirs)) == 0.0
    assert torch.equal(torch.get_rng_state(), state)
    for name in ("FeedForward32Policy", FeedForward32Policy):
        named = build_bc_policy(VECTOR, ACTIONS["box"], name, {"activation_fn": "relu"}, seed=11, device="cpu")
        assert largest_difference(weights(named), weights(theirs)) == 0.0
        assert isinstance(named.mlp_extractor.policy_net[1], nn.ReLU)


def test_policy_is_chosen_by_the_observation_space():
    kinds = {
        name: type(build_bc_policy(space, spaces.Discrete(2), device="cpu")).__name__
        for name, space in {"vector": VECTOR, **OBSERVATIONS}.items()
    }
    assert kinds.pop("image") == "ActorCriticCnnPolicy"
    assert kinds.pop("dict") == "MultiInputActorCriticPolicy"
    assert set(kinds.values()) == {"ActorCriticPolicy"}


def test_policy_takes_images_as_the_environment_gives_them():
    policy = build_bc_policy(IMAGE, spaces.Discrete(2), seed=0, device="cpu")
    image = IMAGE.sample()
    assert policy.observation_space.shape == (3, 36, 40)
    assert (
        policy.predict(image, deterministic=True)[0] == policy.predict(image.transpose(2, 0, 1), deterministic=True)[0]
    )


class Doubled(rl_framework.FeaturesExtractor):
    """Has nothing to learn."""

    def build(self, observation_space):
        return nn.Sequential(nn.Linear(5, 4))


@pytest.mark.parametrize("trainable", [True, False])
def test_own_features_extractor(trainable):
    sequence = recorded()
    policy = build_bc_policy(VECTOR, sequence.action_space, features_extractor=Doubled(trainable), seed=0, device="cpu")
    learner = BehaviouralCloning(policy, sequence.transitions())
    before = weights(policy)
    train(learner, 3)
    moved = largest_difference(
        *({"w": side["features_extractor.module.0.weight"]} for side in (before, weights(policy)))
    )
    assert (learner._plain is None) == trainable
    assert (moved > 0) == trainable
    assert not torch.equal(before["action_net.weight"], policy.action_net.weight)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"policy": "MlpPolicies"}, UnknownNameError, "MlpPolicy"),
        ({"policy": nn.Linear}, ArgumentError, "not registered"),
        ({"policy_kwargs": {"net_archh": [1]}}, ArgumentError, "net_archh"),
        ({"policy": "CnnPolicy"}, ArgumentError, "CnnPolicy|NatureCNN"),
        ({"action_space": spaces.Discrete(3, start=1)}, UnsupportedSpaceError, "start elsewhere"),
        ({"action_space": spaces.Text(3)}, UnsupportedSpaceError, "Text"),
        ({"observation_space": spaces.Text(3)}, UnsupportedSpaceError, "Text"),
    ],
    ids=["unknown", "no policy", "argument", "no image", "start", "text actions", "text observations"],
)
def test_policies_that_cannot_be(arguments, error, message):
    wanted = {"observation_space": VECTOR, "action_space": gymnasium.spaces.Discrete(2), "device": "cpu", **arguments}
    with pytest.raises(error, match=message):
        build_bc_policy(**wanted)
