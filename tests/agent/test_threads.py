"""One torch thread for small networks on the CPU, unless the user chose otherwise."""

import logging
import os

import pytest
import torch
from tests.agent.samples import Sampled, make, train

from rl_framework.training import Callback

LARGE = {"n_steps": 2, "batch_size": 2, "n_epochs": 1, "policy_kwargs": {"net_arch": [256, 256]}}


class Watch(Callback):
    def __init__(self):
        self.threads = set()

    def on_training_start(self, event, training):
        self.choice = event.record["choices"]["torch_threads"]

    def on_step(self, training):
        self.threads.add(torch.get_num_threads())


@pytest.fixture(autouse=True)
def machine_with_two_cores(monkeypatch):
    """As if nobody had set anything on a machine whose default is two threads."""
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    if hasattr(os, "sched_getaffinity"):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
def test_a_small_network_trains_with_one_thread_and_the_setting_is_put_back(algorithm, caplog):
    watch = Watch()
    with caplog.at_level(logging.INFO, logger="rl_framework"):
        train(make(algorithm), Sampled, callbacks=[watch])
    assert watch.threads == {1}
    assert torch.get_num_threads() == 2
    assert watch.choice["value"] == 1
    assert watch.choice["reason"]
    assert "torch threads: 1" in caplog.text


def test_the_setting_is_put_back_after_a_failure_and_an_interrupt():
    for error in (OSError, KeyboardInterrupt):

        class Fails(Sampled):
            def step(self, action, error=error):
                raise error

        with pytest.raises(error):
            train(make(), Fails)
        assert torch.get_num_threads() == 2


@pytest.mark.parametrize("variable", ["OMP_NUM_THREADS", "MKL_NUM_THREADS"])
def test_a_variable_that_the_user_set_counts(variable, monkeypatch):
    monkeypatch.setenv(variable, "2")
    watch = Watch()
    train(make(), Sampled, callbacks=[watch])
    assert watch.threads == {2}
    assert watch.choice == {"value": 2, "reason": f"{variable} is set"}


def test_a_number_that_the_user_set_counts():
    torch.set_num_threads(3)
    watch = Watch()
    train(make(), Sampled, callbacks=[watch])
    assert watch.threads == {3}
    assert watch.choice["value"] == 3
    assert "set_num_threads" in watch.choice["reason"]
    assert torch.get_num_threads() == 3


def test_a_large_network_keeps_the_default():
    watch = Watch()
    train(make("ppo", LARGE), Sampled, 2, callbacks=[watch])
    assert watch.threads == {2}
    assert watch.choice["value"] == 2
    assert "large" in watch.choice["reason"]


def test_a_number_that_a_callback_sets_while_training_stays():
    class Sets(Callback):
        def on_step(self, training):
            torch.set_num_threads(3)

    train(make(), Sampled, callbacks=[Sets()])
    assert torch.get_num_threads() == 3


def test_acting_and_evaluating_leave_the_setting_alone():
    agent = train(make(), Sampled)
    agent.evaluate(Sampled, 1)
    agent.choose_action(agent.observation_space.sample())
    assert torch.get_num_threads() == 2
