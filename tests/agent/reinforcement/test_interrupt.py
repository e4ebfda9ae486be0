"""Interrupting: the agent can be used, everybody is told, and nothing is left behind."""

import os
import signal
import time

import numpy as np
import pytest
from jupyter_client.manager import KernelManager
from tests.agent.samples import Sampled, make, train
from tests.kernels import private_sockets

from rl_framework.training import Callback, RolloutEnded, TrainingEnded, TrainingFailed


class Log(Callback):
    def __init__(self):
        self.events = []

    def on_event(self, event, training):
        self.events.append(event)


class Interrupted(Sampled):
    def step(self, action):
        if self.steps == 21:
            self.steps += 1
            os.kill(os.getpid(), signal.SIGINT)
        return super().step(action)


@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
def test_in_a_script_the_interrupt_goes_on_to_the_caller_and_the_agent_can_be_used(algorithm, tmp_path):
    before = signal.getsignal(signal.SIGINT)
    log, environment, agent = Log(), Interrupted(), make(algorithm)
    with pytest.raises(KeyboardInterrupt):
        train(agent, environment, callbacks=[log])
    assert signal.getsignal(signal.SIGINT) is before
    end = log.events[-1]
    assert isinstance(end, TrainingEnded)
    assert end.interrupted
    assert end.timestep == agent.num_timesteps == 21
    assert not [event for event in log.events if isinstance(event, TrainingFailed)]
    assert not environment.closed
    agent.choose_action(np.zeros(3))
    agent.save_to_file(tmp_path / "agent.zip")
    assert train(agent, environment).num_timesteps == 21 + 48


@pytest.mark.parametrize("where", ["on_training_start", "on_step", "on_update"])
def test_an_interrupt_inside_a_callback_is_one_too(where):
    def interrupt(*_):
        raise KeyboardInterrupt

    log = Log()
    with pytest.raises(KeyboardInterrupt):
        train(make(), callbacks=[log, type("Interrupting", (Callback,), {where: interrupt})()])
    assert isinstance(log.events[-1], TrainingEnded)
    assert log.events[-1].interrupted


def test_no_signal_handler_is_replaced_while_training():
    class Watch(Callback):
        def __init__(self):
            self.handlers = set()

        def on_event(self, event, training):
            self.handlers.add((signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)))

    watch = Watch()
    expected = (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
    train(make(), callbacks=[watch])
    assert watch.handlers == {expected}


def test_in_a_notebook_training_returns_the_agent(monkeypatch):
    monkeypatch.setattr("rl_framework.agent.trainable_agent.in_notebook", lambda: True)
    log, agent = Log(), make()
    assert train(agent, Interrupted(), callbacks=[log]) is agent
    assert log.events[-1].interrupted
    assert [event for event in log.events if isinstance(event, RolloutEnded)]


# A real Jupyter kernel

PREPARE = """
import signal
import torch
torch.set_num_threads(1)
from rl_framework import Callback, StableBaselinesAgent

class Announce(Callback):
    def on_rollout_end(self, event, training):
        if event.timestep == 64:
            print("TRAINING", flush=True)
    def on_training_end(self, event, training):
        print("INTERRUPTED", event.interrupted, flush=True)

handler = signal.getsignal(signal.SIGINT)
agent = StableBaselinesAgent("ppo", {"n_steps": 16, "batch_size": 16})
"""
TRAIN = "trained = agent.train('CartPole-v1', total_timesteps=10**9, callbacks=[Announce()], progress_bar=False)"
USE = """
assert trained is agent
assert agent.num_timesteps >= 64
assert agent.choose_action([0.0, 0.0, 0.0, 0.0]) in (0, 1)
assert signal.getsignal(signal.SIGINT) is handler
agent.train('CartPole-v1', total_timesteps=16, progress_bar=False)
print("USABLE")
"""


def run_cell(client, code, when=None, then=None, patience=120):
    """Runs a cell; once `when` is in its output, calls `then`. Returns what it printed and how it ended."""
    identifier = client.execute(code)
    printed, deadline = "", time.monotonic() + patience
    while time.monotonic() < deadline:
        message = client.get_iopub_msg(timeout=deadline - time.monotonic())
        if message["parent_header"].get("msg_id") != identifier:
            continue
        content = message["content"]
        if message["msg_type"] == "stream":
            printed += content["text"]
            if then is not None and when in printed:
                then()
                then = None
        elif message["msg_type"] == "error":
            raise AssertionError("\n".join(content["traceback"]))
        elif message["msg_type"] == "status" and content["execution_state"] == "idle":
            break
    while True:
        reply = client.get_shell_msg(timeout=patience)
        if reply["parent_header"].get("msg_id") == identifier:  # a kernel that starts slowly is asked how it is again
            break
    return printed, reply["content"]["status"]


def test_interrupting_a_jupyter_kernel_leaves_the_agent_and_the_kernel_usable(monkeypatch):
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(variable, "1")
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    with private_sockets() as config:
        kernel = KernelManager(kernel_name="python3", config=config)
        kernel.start_kernel()
        client = kernel.client()
        client.start_channels()
        try:
            client.wait_for_ready(timeout=120)
            assert run_cell(client, PREPARE)[1] == "ok"
            printed, status = run_cell(client, TRAIN, "TRAINING", kernel.interrupt_kernel)
            assert status == "ok"
            assert "INTERRUPTED True" in printed
            printed, status = run_cell(client, USE)
            assert (printed.strip(), status) == ("USABLE", "ok")
            assert kernel.is_alive()
        finally:
            client.stop_channels()
            kernel.shutdown_kernel(now=True)
