"""A large replay buffer is written to disk without being held in memory a second time."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
from stable_baselines3.common.buffers import ReplayBuffer

# In a process of its own, because the peak that the operating system reports never falls again.
CHILD = """
    import resource, sys
    import numpy as np
    import torch
    from gymnasium import spaces
    from stable_baselines3.common.buffers import ReplayBuffer
    from rl_framework.agent.reinforcement.library.state.training_state import _take_buffer
    from rl_framework.bundle import write_bundle

    def peak():
        try:  # the other one begins, on Linux, with the peak of the process that has started this one
            told = open("/proc/self/status").read()
        except OSError:
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return int(told.partition("VmHWM:")[2].split()[0]) * 1024

    class Algorithm:
        pass

    transitions, features, environments, path, full = int(sys.argv[1]), int(sys.argv[2]), 4, sys.argv[3], sys.argv[4]
    # What a first bundle loads and reserves is no cost of the buffer.
    write_bundle(path, kind="agent", members={"a.npz": {"a": np.zeros(3)}, "b.safetensors": {"b": torch.zeros(3)}})
    space = spaces.Box(-1, 1, (features,))
    buffer = ReplayBuffer(transitions, space, spaces.Box(-1, 1, (1,)), "cpu", environments)
    size = 0
    for array in vars(buffer).values():
        if isinstance(array, np.ndarray):
            array[...] = 1
            size += array.nbytes
    buffer.full, buffer.pos = full == "full", buffer.buffer_size - 7
    algorithm = Algorithm()
    algorithm.replay_buffer = buffer
    before = peak()
    arrays, state = {}, {}
    _take_buffer(algorithm, arrays, state)
    write_bundle(path, kind="agent", members={"state.json": state, "training_state/arrays.npz": arrays})
    print(size, peak() - before)
"""


def measured(tmp_path, transitions, features, full):
    path = tmp_path / "checkpoint.zip"
    command = [sys.executable, "-c", textwrap.dedent(CHILD), str(transitions), str(features), str(path), full]
    size, further = map(int, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    assert path.stat().st_size > 0.99 * size
    return size, further


@pytest.mark.skipif(sys.platform == "win32", reason="the operating system does not tell the peak this way")
@pytest.mark.parametrize("full", ["full", "not-full"])
def test_saving_a_buffer_of_a_million_transitions_needs_a_twentieth_of_its_size_further(tmp_path, full):
    size, further = measured(tmp_path, 1_000_000, 17, full)
    assert size > 150e6
    assert further < 0.05 * size, f"{further / 1e6:.1f} MB for a buffer of {size / 1e6:.1f} MB"


def test_a_replay_buffer_is_taken_as_views_without_copies():
    from types import SimpleNamespace

    from gymnasium import spaces

    from rl_framework.agent.reinforcement.library.state.training_state import _take_buffer

    box = spaces.Box(-1, 1, (3,))
    buffer = ReplayBuffer(100, box, box, "cpu", 2, handle_timeout_termination=True)
    buffer.pos = 20
    arrays: dict[str, np.ndarray] = {}
    _take_buffer(SimpleNamespace(replay_buffer=buffer), arrays, {})
    assert {name.removeprefix("buffer/") for name in arrays} >= {"observations", "actions", "rewards", "dones"}
    for name, array in arrays.items():
        assert np.shares_memory(array, getattr(buffer, name.removeprefix("buffer/"))), name
        assert array.flags.c_contiguous, name
