"""A sequence of episodes: a view that costs little, and what can be asked of it."""

import re
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.episode.samples import FORCES, MOVES, NESTED, SPACES, SWITCHES, VECTORS, episodes, same, same_tree

from rl_framework.episode import Episode, EpisodeSequence
from rl_framework.episode.storage import EpisodeStorage
from rl_framework.errors import ArgumentError, EpisodeDataError, SpaceMismatchError, UnsupportedSpaceError


class OneByOne(EpisodeStorage):
    """A format that offers nothing but its episodes, and counts how often it is asked for them."""

    format = "tests.one_by_one"
    source = "a <test>"
    spaces_are_inferred = False

    def __init__(self, made, observation_space=VECTORS, action_space=MOVES):
        self.made, self.reads = made, []
        self.observation_space, self.action_space = observation_space, action_space

    @property
    def lengths(self):
        return np.array([len(episode) for episode in self.made])

    @property
    def terminated(self):
        return np.array([episode.terminated for episode in self.made])

    @property
    def truncated(self):
        return np.array([episode.truncated for episode in self.made])

    def read(self, index):
        self.reads.append(index)
        return self.made[index]


def sequence_of(made, kind, observation_space=VECTORS, action_space=MOVES):
    if kind == "one_by_one":
        return EpisodeSequence.from_storage(OneByOne(made, observation_space, action_space))
    sequence = EpisodeSequence.from_episodes(made, observation_space, action_space)
    if kind == "stored":
        sequence.save("data", overwrite=True)
        return EpisodeSequence.load("data")
    return sequence


KINDS = ["memory", "stored", "one_by_one"]


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_a_sequence(kind):
    made = episodes([3, 1, 4, 1, 5])
    sequence = sequence_of(made, kind)
    assert len(sequence) == 5
    assert sequence.n_transitions == 14
    assert same(sequence[-1], made[4])
    assert [len(episode) for episode in sequence] == [3, 1, 4, 1, 5]
    assert [len(episode) for episode in reversed(sequence)] == [5, 1, 4, 1, 3]
    for index in (5, -6):
        with pytest.raises(IndexError):
            sequence[index]
    part = sequence[1:4][::-1]
    assert isinstance(part, EpisodeSequence)
    assert part.lengths.tolist() == [1, 4, 1]
    assert same(part[0], made[3])
    assert len(sequence[9:]) == 0
    assert repr(sequence).startswith("EpisodeSequence(5 episodes, 14 transitions, Box(")


def test_views_read_nothing():
    sequence = sequence_of(episodes([2, 3, 4, 5]), "one_by_one")
    (storage,) = sequence._storages
    both = sequence[1:] + sequence.shuffled(3)
    train, validation = both.split(0.5)
    transitions = train.transitions()
    assert len(transitions) == train.n_transitions
    assert len(train) + len(validation) == 7
    assert storage.reads == []
    assert len(both._storages) == 1
    transitions.gather(np.array([0, 1]))
    assert len(storage.reads) == 1  # both lie in one episode
    _ = sequence.returns
    assert sequence.filter(minimum_return=1).returns.min() >= 1
    assert len(storage.reads) == 5


def test_a_random_episode_costs_as_much_however_long_it_is_and_little():
    """Of this thread's time, which nobody else uses up; 3 microseconds and 400 times as much were measured."""

    def cost(work, times=20):
        costs = []
        for _ in range(times):
            started = time.thread_time()
            work()
            costs.append(time.thread_time() - started)
        return min(costs)

    for name, length in (("short", 50), ("long", 5_000)):
        EpisodeSequence.from_episodes(episodes([length] * 40), VECTORS, MOVES).save(name)
    short, long = EpisodeSequence.load("short"), EpisodeSequence.load("long")
    of_short, of_long = (cost(lambda each=each: [each[index] for index in range(40)]) / 40 for each in (short, long))
    assert of_long < 5 * of_short
    assert of_short < cost(lambda: EpisodeSequence.load("short")) / 20


# Spaces


def test_guessed_spaces_are_marked():
    sequence = EpisodeSequence.from_episodes(episodes([3, 3]))
    assert sequence.spaces_are_inferred
    assert sequence.observation_space == spaces.Box(-np.inf, np.inf, (3,), np.float32)
    assert "spaces guessed" in repr(sequence)
    assert not EpisodeSequence.from_episodes(sequence, VECTORS, MOVES).spaces_are_inferred
    assert not EpisodeSequence.from_episodes(EpisodeSequence.from_episodes(episodes([3]), VECTORS, MOVES)[:1])[
        :
    ].spaces_are_inferred
    assert EpisodeSequence.from_episodes(episodes([3]), action_space=MOVES).spaces_are_inferred


def actions(*values):
    count = len(values)
    return Episode(np.zeros((count + 1, 1), np.float32), np.array(values), np.zeros(count), True, False)


def test_guessed_counts_grow_when_sequences_are_joined():
    one, other = EpisodeSequence.from_episodes([actions(0, 1)]), EpisodeSequence.from_episodes([actions(0, 4)])
    for joined in (one + other, other + one):
        assert joined.action_space == spaces.Discrete(5)
        assert joined.spaces_are_inferred
    vectors = [EpisodeSequence.from_episodes([actions([0, 3])]), EpisodeSequence.from_episodes([actions([2, 0])])]
    assert (vectors[0] + vectors[1]).action_space == spaces.MultiDiscrete([3, 4])
    box = spaces.Box(-1, 1, (1,))
    stated = EpisodeSequence.from_episodes([actions(0, 1)], box, spaces.Discrete(3))
    joined = one + stated
    assert (joined.observation_space, joined.action_space) == (box, spaces.Discrete(3))
    assert not joined.spaces_are_inferred
    with pytest.raises(SpaceMismatchError, match=r"action_space.*Discrete\(5\) is not Discrete\(3\)"):
        stated + other


def test_sequences_of_different_environments_do_not_join():
    vectors = EpisodeSequence.from_episodes(episodes([2]), VECTORS, MOVES)
    nested = EpisodeSequence.from_episodes(episodes([2], NESTED, MOVES), NESTED, MOVES)
    with pytest.raises(SpaceMismatchError, match="observation_space"):
        vectors + nested
    other_space = spaces.Dict({**NESTED.spaces, "goal": spaces.Discrete(5)})
    other = EpisodeSequence.from_episodes(episodes([2], other_space, MOVES), other_space, MOVES)
    with pytest.raises(SpaceMismatchError, match=r"observations\['goal'\] is Discrete\(5\), not Discrete\(4\)"):
        nested + other
    with pytest.raises(TypeError):
        vectors + episodes([2])


def test_guessed_dicts_join():
    parts = [EpisodeSequence.from_episodes(episodes([length], NESTED, SWITCHES, seed=length)) for length in (2, 30)]
    joined = parts[0] + parts[1]
    assert joined.observation_space["goal"] == spaces.Discrete(4)
    joined.save("data")
    assert EpisodeSequence.load("data").observation_space == joined.observation_space


def changed(**changes):
    parts = {
        "observations": np.zeros((4, 3), np.float32),
        "actions": np.zeros(3, np.int64),
        "rewards": np.zeros(3),
        **changes,
    }
    return Episode(**parts, terminated=True, truncated=False)


BAD = {
    "nan": ({"observations": np.array([[0, 0, 0], [0, np.nan, 0]] * 2)}, r"observations\[1\] is not finite"),
    "infinity": ({"observations": np.full((4, 3), -np.inf)}, r"observations\[0\] is not finite"),
    "outside": ({"actions": np.array([0, 1, 3])}, r"actions\[2\] is .*3.*, outside Discrete\(3\)"),
    "negative": ({"actions": np.array([0, -1, 0])}, r"actions\[1\] is"),
    "fractions": ({"actions": np.zeros(3)}, r"actions holds float64, but Discrete\(3\) has whole numbers"),
    "shape": ({"observations": np.zeros((4, 2))}, r"observations has rows of the shape \(2,\), not \(3,\)"),
    "dict": ({"observations": {"a": np.zeros((4, 3))}}, r"it has observations\['a'\], but the observation space"),
    "some_rewards": ({"rewards": np.array([0, np.nan, 0])}, r"rewards\[1\] is nan"),
    "infinite_reward": ({"rewards": np.array([0, 0, np.inf])}, r"rewards\[2\] is inf"),
    "overflow": ({"observations": np.full((4, 3), 1e300)}, r"observations\[0\] is .*which float32 cannot hold"),
}


@pytest.mark.parametrize("name", BAD)
def test_episodes_that_cannot_be_learned_from_are_refused_when_they_are_given(name):
    changes, match = BAD[name]
    with pytest.raises(EpisodeDataError, match=f"episode 1: {match}"):
        EpisodeSequence.from_episodes([changed(), changed(**changes)], VECTORS, MOVES)
    with pytest.raises(EpisodeDataError, match=f"episode 1: {match}"):
        EpisodeSequence.from_episode_generator([changed(), changed(**changes)], 2, VECTORS, MOVES)


def test_actions_may_miss_their_bounds_by_rounding_and_types_are_those_of_the_space():
    def of(action):
        return Episode(np.zeros((2, 3)), np.array([[action, 0.0]]), np.zeros(1), True, False)

    sequence = EpisodeSequence.from_episodes([of(1.000001)], VECTORS, FORCES)
    assert sequence[0].actions.dtype == np.float32
    assert sequence[0].observations.dtype == np.float32
    with pytest.raises(EpisodeDataError, match="outside Box"):
        EpisodeSequence.from_episodes([of(1.01)], VECTORS, FORCES)


def test_without_a_space_later_episodes_have_to_be_of_the_type_of_the_first():
    with pytest.raises(EpisodeDataError, match="episode 1: observations holds float64, but the first episode float32"):
        EpisodeSequence.from_episodes([changed(), changed(observations=np.zeros((4, 3)))])
    wide = changed(observations=np.zeros((4, 3)))
    assert EpisodeSequence.from_episodes([wide, changed()])[1].observations.dtype == np.float64
    with pytest.raises(EpisodeDataError, match=r"episode 1: actions\[0\] is 300, which uint8 cannot hold"):
        EpisodeSequence.from_episodes([changed(actions=np.zeros(3, np.uint8)), changed(actions=np.full(3, 300))])
    with pytest.raises(EpisodeDataError, match=r"episode 0: actions.*counted from 0\. Give action_space"):
        EpisodeSequence.from_episodes([changed(actions=np.array([0, -1, 0]))])


def test_spaces_that_episodes_do_not_have_are_refused():
    for observation_space in (spaces.Text(3), spaces.Tuple([VECTORS]), spaces.Dict({"a": spaces.Text(3)})):
        with pytest.raises(UnsupportedSpaceError, match="observation_space"):
            EpisodeSequence.from_episodes(episodes([1]), observation_space, MOVES)
    with pytest.raises(UnsupportedSpaceError, match="action_space"):
        EpisodeSequence.from_episodes(episodes([1]), VECTORS, NESTED)


# Parts


@settings(max_examples=40, deadline=None)
@given(count=st.integers(2, 40), fraction=st.floats(0.01, 0.99), seed=st.integers(0, 2**32))
def test_splits_divide_the_episodes_in_a_way_that_the_seed_decides(count, fraction, seed):
    sequence = EpisodeSequence.from_episodes(episodes([1] * count), VECTORS, MOVES)
    train, validation = sequence.split(fraction, seed)
    assert sorted([*train.returns, *validation.returns]) == list(range(count))
    assert list(train.returns) == sorted(train.returns)
    assert min(len(train), len(validation)) >= 1
    assert abs(len(validation) - count * fraction) <= 1
    again = sequence.split(validation_fraction=fraction, seed=seed)
    assert again[1].returns.tolist() == validation.returns.tolist()


def test_other_seeds_divide_otherwise_and_impossible_splits_are_refused():
    sequence = EpisodeSequence.from_episodes(episodes([1] * 30), VECTORS, MOVES)
    assert len(sequence.split()[1]) == 6
    assert len({tuple(sequence.split(seed=seed)[1].returns) for seed in range(5)}) == 5
    for fraction in (0, 1, -0.5, 2, float("nan")):
        with pytest.raises(ArgumentError, match="validation_fraction"):
            sequence.split(fraction)
    with pytest.raises(ArgumentError, match="too few"):
        sequence[:1].split()
    assert sorted(sequence.shuffled(1).returns) == list(range(30))
    assert sequence.shuffled(1).returns.tolist() == sequence.shuffled(1).returns.tolist() != list(range(30))


def test_filters():
    sequence = EpisodeSequence.from_episodes(episodes([2] * 6), VECTORS, MOVES)  # returns 0, 2, ... 10
    assert sequence.filter(minimum_return=4).returns.tolist() == [4, 6, 8, 10]
    assert sequence.filter(4, 8, lambda episode: episode.terminated).returns.tolist() == [6]
    assert len(sequence.filter(minimum_return=99)) == 0
    unknown = EpisodeSequence.from_episodes([changed(rewards=np.full(3, np.nan)), changed()], VECTORS, MOVES)
    with pytest.raises(ArgumentError, match="the rewards of 1 of 2 episodes are not known"):
        unknown.filter(minimum_return=0)
    assert len(unknown.filter(predicate=lambda episode: True)) == 2


# Transitions


def expected(made):
    return [(episode, step, step == len(episode) - 1) for episode in made for step in range(len(episode))]


def row(tree, index):
    return {key: row(part, index) for key, part in tree.items()} if isinstance(tree, dict) else tree[index : index + 1]


def check_batch(batch, wanted):
    assert len(batch) == len(wanted)
    for index, (episode, step, last) in enumerate(wanted):
        assert same_tree(row(batch.observations, index), row(episode.observations, step))
        assert same_tree(row(batch.next_observations, index), row(episode.observations, step + 1))
        assert np.array_equal(batch.actions[index], episode.actions[step])
        assert batch.rewards[index] == episode.rewards[step]
        assert batch.terminated[index] == (last and episode.terminated)
        assert batch.truncated[index] == (last and episode.truncated)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("space", SPACES)
def test_transitions_are_those_of_the_episodes(kind, space):
    made = episodes([3, 1, 5, 2], *SPACES[space])
    sequence = sequence_of(made, kind, *SPACES[space])
    for part, chosen in ((sequence, made), (sequence[::-2], made[::-2]), (sequence + sequence[:1], [*made, made[0]])):
        wanted = expected(chosen)
        transitions = part.transitions()
        assert len(transitions) == len(wanted)
        check_batch(transitions.all(), wanted)
        indices = np.random.default_rng(0).integers(0, len(wanted), 20)
        check_batch(transitions.gather(indices), [wanted[index] for index in indices])


def test_long_episodes_are_flattened_the_same_way():
    made = episodes([300, 250, 400])
    sequence = sequence_of(made, "stored")[::-1]
    check_batch(sequence.transitions().all(), expected(made[::-1]))


def test_transitions_of_several_storages():
    one, other = episodes([3, 2]), episodes([1, 4], seed=5)
    sequence = sequence_of(one, "stored") + sequence_of(other, "one_by_one") + sequence_of(one, "memory")[1:]
    wanted = expected([*one, *other, one[1]])
    transitions = sequence.transitions()
    assert sequence.returns.tolist() == [0, 2, 0, 4, 2]
    check_batch(transitions.all(), wanted)
    indices = np.random.default_rng(1).permutation(len(wanted))
    check_batch(transitions.gather(indices), [wanted[index] for index in indices])
    assert transitions.arrays() is None
    with pytest.raises(ArgumentError, match="several storages"):
        transitions.rows(indices)
    assert sequence[:2].transitions().arrays() is not None
    sequence.save("all")
    assert all(same(a, b) for a, b in zip(EpisodeSequence.load("all"), sequence, strict=True))


def test_rows_find_transitions_in_the_arrays_of_the_storage():
    made = episodes([3, 1, 5, 2])
    sequence = sequence_of(made, "stored").shuffled(2)[:3]
    transitions = sequence.transitions()
    indices = np.array([7, 0, 3, 3])
    batch, arrays = transitions.gather(indices), transitions.arrays()
    rows, observation_rows = transitions.rows(indices)
    assert np.array_equal(arrays.actions[rows], batch.actions)
    assert np.array_equal(arrays.rewards[rows], batch.rewards)
    assert np.array_equal(arrays.observations[observation_rows], batch.observations)
    assert np.array_equal(arrays.observations[observation_rows + 1], batch.next_observations)


def test_indices_that_are_none_are_refused():
    transitions = EpisodeSequence.from_episodes(episodes([3]), VECTORS, MOVES).transitions()
    for indices in ([3], [-1], [0.5], [[0]], [], [True]):
        with pytest.raises(ArgumentError, match="indices"):
            transitions.gather(np.array(indices))
    empty = EpisodeSequence.from_episodes(episodes([3]), VECTORS, MOVES)[:0].transitions()
    assert len(empty) == 0
    with pytest.raises(ArgumentError, match="no transitions"):
        empty.all()


def test_batches_may_be_changed():
    sequence = sequence_of(episodes([3, 2]), "stored")
    before = sequence[0].observations.copy()
    batch = sequence.transitions().all()
    batch.observations[:] = 7
    batch.next_observations[:] = 7
    assert np.array_equal(sequence[0].observations, before)


# Summary


def test_statistics():
    made = [*episodes([2, 4, 6]), changed(rewards=np.full(3, np.nan))]
    statistics = EpisodeSequence.from_episodes(made, VECTORS, MOVES).statistics()
    assert (statistics.episodes, statistics.transitions, statistics.unknown_returns) == (4, 15, 1)
    assert (statistics.return_min, statistics.return_max) == (0.0, 12.0)
    assert statistics.return_mean == pytest.approx(16 / 3)
    assert statistics.return_std == pytest.approx(np.std([0, 4, 12]))
    assert statistics.return_quartiles == (2.0, 4.0, 8.0)
    assert (statistics.length_mean, statistics.length_min, statistics.length_max) == (3.75, 2, 6)
    assert (statistics.terminated, statistics.truncated) == (0.5, 0.25)


def test_statistics_of_nothing_and_of_unknown_rewards(recwarn):
    sequence = EpisodeSequence.from_episodes([changed(rewards=np.full(3, np.nan))], VECTORS, MOVES)
    assert np.isnan(sequence.statistics().return_mean)
    assert "not known" in sequence._repr_html_()
    nothing = sequence[:0].statistics()
    assert nothing.episodes == nothing.transitions == 0
    assert np.isnan(nothing.length_mean)
    assert "<table" in sequence[:0]._repr_html_()
    assert not [warning for warning in recwarn if warning.category is not ResourceWarning]  # those are other tests'


class Checker(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.text = [], []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_a_notebook_shows_a_table_in_its_own_colours():
    sequence = sequence_of(episodes([2, 4]), "one_by_one")
    shown = sequence._repr_html_()
    checker = Checker()
    checker.feed(shown)
    assert checker.open == []
    assert "a <test>" in checker.text  # escaped on the way
    assert "2" in checker.text
    assert not re.search(r"#[0-9a-f]{3,6}|rgb|black|white", shown)


def test_the_names_lead_to_the_package():
    import rl_framework

    assert rl_framework.EpisodeSequence is EpisodeSequence
    assert rl_framework.Episode is Episode
    assert issubclass(rl_framework.EpisodeDataError, rl_framework.RLFrameworkError)
    assert Path(rl_framework.episode.__file__).exists()


def test_statistics_are_printed_as_a_table():
    sequence = EpisodeSequence.load(Path(__file__).resolve().parents[2] / "data" / "cartpole_expert")
    lines = str(sequence.statistics()).splitlines()
    assert lines[0].split() == ["episodes", "40"]
    assert lines[2].split() == ["return", "500", "±", "0"]
    assert len({line.index(value) for line, value in zip(lines[:2], ("40", "20,000"), strict=True)}) == 1
