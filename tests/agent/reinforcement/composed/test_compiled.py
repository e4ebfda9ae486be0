"""A step as one program computes what it computes operation by operation."""

import shutil
import sys

import pytest
import torch

from rl_framework import ArgumentError, ComposedAgent
from rl_framework.agent.reinforcement.composed import compiled as compiled_module
from rl_framework.agent.reinforcement.composed.batch import Batch
from rl_framework.agent.reinforcement.composed.compiled import CompiledUpdate, choose_compiled, obstacle_to_compiling
from rl_framework.agent.reinforcement.composed.update import Update
from rl_framework.agent.reinforcement.parts import PPO, RND, Entropy
from rl_framework.bundle import list_checkpoints

SMALL = {"n_steps": 16, "batch_size": 16, "n_epochs": 2}


def made(parts, environment="CartPole-v1", **arguments):
    agent = ComposedAgent(parts, compiled=False, networks={"type": "mlp", "hidden_sizes": [8]}, **arguments)
    return agent.train(environment, 1, seed=0, n_environments=2, progress_bar=False)


def recorded_batches(agent, environment="CartPole-v1"):
    """Trains on and keeps the complete batches."""
    kept = []
    part = agent.parts[0]
    loss = part.loss

    def keep(batch):
        if not torch.is_inference_mode_enabled() and torch.is_grad_enabled():
            kept.append(dict(batch.tensors))
        return loss(batch)

    part.loss = keep
    agent.train(environment, 64, n_environments=2, progress_bar=False)
    part.loss = loss
    return kept


def state_of(agent):
    tensors = {name: tensor.detach().clone() for name, tensor in agent.composition.tensors().items()}
    moments = agent.composition.optimizer.state_dict()["state"]
    return tensors, {(index, key): value.clone() for index in moments for key, value in moments[index].items()}


CASES = {
    "adam": ([PPO(**SMALL)], {}, "CartPole-v1"),
    "continuous, clipped values": ([PPO(**SMALL, clip_range_vf=0.2, ent_coef=0.01)], {}, "Pendulum-v1"),
    "adamw": ([PPO(**SMALL)], {"optimizer": {"type": "adamw", "weight_decay": 0.1}}, "CartPole-v1"),
    "adam with decay, no limit": (
        [PPO(**SMALL)],
        {"optimizer": {"type": "adam", "weight_decay": 0.1}, "max_grad_norm": None},
        "CartPole-v1",
    ),
    "parts, shared trunk": ([PPO(**SMALL, value_trunk="policy"), RND(), Entropy()], {}, "CartPole-v1"),
    "refused steps": ([PPO(**SMALL, target_kl=1e-3)], {"learning_rate": 1e-2}, "CartPole-v1"),
}


@pytest.mark.parametrize("case", ["parts, shared trunk", "refused steps"])
def test_the_same_batches_lead_to_the_same_weights(case):
    _same(case, "aot_eager")


@pytest.mark.slow
@pytest.mark.skipif(not any(shutil.which(name) for name in ("g++", "clang++")), reason="there is no C++ compiler")
@pytest.mark.parametrize("case", CASES)
def test_the_same_with_a_real_compiler(case):
    _same(case, "inductor")


def _same(case, backend):
    parts, arguments, environment = CASES[case]
    agent = made([type(part)(**part.arguments) for part in parts], environment, **arguments)
    batches = recorded_batches(agent, environment)[:6]
    before = state_of(agent)
    composition, limit = agent.composition, agent.composition.max_grad_norm
    ends = []
    vetoed = []
    for kind in ("eager", "compiled"):
        tensors, moments = before
        with torch.no_grad():
            for name, tensor in composition.tensors().items():
                tensor.copy_(tensors[name])
        state = composition.optimizer.state_dict()["state"]
        for (index, key), value in moments.items():
            state[index][key].copy_(value)
        named = composition.named
        update = (
            Update(named, composition.optimizer, limit)
            if kind == "eager"
            else CompiledUpdate(composition, named, composition.optimizer, limit, backend=backend)
        )
        refused = []
        for each in batches:
            batch = Batch(each)
            # Not `update(batch)`, which would prepare it once more.
            update.measured.add(update._step(batch))
            refused.append(batch.vetoed)
        update.finish()
        vetoed.append(refused)
        ends.append((state_of(agent), update.measured.means()))
    (eager, told), (compiled, told_compiled) = ends
    assert vetoed[0] == vetoed[1]
    assert any(vetoed[0]) == (case == "refused steps")
    assert not all(vetoed[0])
    for mine, theirs, start in zip(eager, compiled, before, strict=True):
        assert mine.keys() == theirs.keys()
        for key in mine:
            assert torch.allclose(mine[key].double(), theirs[key].double(), atol=2e-6), key
        assert any(not torch.equal(mine[key], start[key]) for key in mine)
    assert told.keys() == told_compiled.keys()
    for name, value in told.items():
        assert told_compiled[name] == pytest.approx(value, rel=1e-4, abs=1e-5), name


def test_it_is_chosen_where_it_can_be_done_and_pays():
    assert choose_compiled("auto", None, 10_000)[0] is False
    assert choose_compiled("auto", None, 1_000_000)[0] is True
    assert choose_compiled("auto", "no compiler", 1_000_000) == (False, "no compiler")
    assert choose_compiled(False, None, 1_000_000) == (False, "asked for")
    assert choose_compiled(True, None, 1) == (True, "asked for")
    with pytest.raises(ArgumentError, match="no compiler"):
        choose_compiled(True, "no compiler", 1_000_000)


@pytest.mark.parametrize(
    ("arguments", "obstacle"),
    [
        ({"optimizer": "sgd"}, "a step of SGD"),
        ({"optimizer": {"type": "adam", "amsgrad": True}}, "a step of Adam with these options"),
        ({}, None),
    ],
    ids=["sgd", "amsgrad", "adam"],
)
def test_what_stands_in_the_way_is_named(arguments, obstacle, monkeypatch):
    composition = made([PPO(**SMALL)], **arguments).composition
    cpu = torch.device("cpu")
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/g++")
    found = obstacle_to_compiling(composition, composition.named, composition.optimizer, cpu)
    assert found is None if obstacle is None else found.startswith(obstacle)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert obstacle_to_compiling(composition, composition.named, composition.optimizer, cpu) is not None


@pytest.mark.parametrize(("named", "there"), [(None, True), ("cc1plus", False), ("my++", True)])
def test_the_compiler_is_looked_for_where_torch_does(named, there, monkeypatch):
    composition = made([PPO(**SMALL)]).composition
    usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    monkeypatch.setattr(shutil, "which", lambda name: name if name in (usual, "my++") else None)
    monkeypatch.delenv("CXX", raising=False)
    if named is not None:
        monkeypatch.setenv("CXX", named)
    found = obstacle_to_compiling(composition, composition.named, composition.optimizer, torch.device("cpu"))
    assert found is None if there else named in found


# When torch turns out not to be able to


class Fails:
    """Stands for a compiler without headers, or a network that cannot be traced."""

    def __init__(self, monkeypatch):
        self.calls = 0
        monkeypatch.setattr(torch, "compile", lambda *_, **__: self)
        monkeypatch.setattr(compiled_module, "_WORTH_IT", 1)
        monkeypatch.setattr(shutil, "which", lambda name: name)

    def __call__(self, *arguments):
        self.calls += 1
        raise RuntimeError("\nPython.h: no such file\nand a hundred lines more")


def test_where_compiling_fails_training_goes_on_without(monkeypatch, caplog):
    def trained(**arguments):
        agent = ComposedAgent([PPO(**SMALL), RND()], **arguments)
        return agent.train("CartPole-v1", 100, seed=0, n_environments=2, progress_bar=False)

    plain = trained(compiled=False)
    fails = Fails(monkeypatch)
    agent = trained()
    assert fails.calls == 1
    for mine, theirs in zip(state_of(agent), state_of(plain), strict=True):
        assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    choice = {"value": False, "reason": "torch could not compile a step: Python.h: no such file"}
    assert agent.history()["runs"][-1]["choices"]["compiled"] == choice
    assert "goes on without" in caplog.text
    agent.train("CartPole-v1", 40, n_environments=2, progress_bar=False)
    assert fails.calls == 1  # it is not tried again
    assert agent.history()["runs"][-1]["choices"]["compiled"] == choice


def test_where_compiling_was_asked_for_its_failure_is_an_error(monkeypatch):
    Fails(monkeypatch)
    with pytest.raises(ArgumentError, match=r"compiled=True: torch could not compile a step: Python\.h: no such file"):
        ComposedAgent([PPO(**SMALL)], compiled=True).train("CartPole-v1", 40, seed=0, progress_bar=False)


def test_steps_that_others_took_in_between_are_counted():
    agent = made([PPO(**SMALL)])
    composition = agent.composition
    update = CompiledUpdate(composition, composition.named, composition.optimizer, backend="eager")
    agent.train("CartPole-v1", 64, n_environments=2, progress_bar=False)
    update.start()
    update.finish()
    steps = {int(state["step"]) for state in composition.optimizer.state.values()}
    assert steps == {4 + 8}


def test_recurrent_networks_and_parts_that_say_so_stand_in_the_way():
    agent = ComposedAgent([PPO(**SMALL)], networks={"type": "gru", "sequence_length": 8}, compiled=True)
    with pytest.raises(ArgumentError, match="recurrent networks are not compiled"):
        agent.train("CartPole-v1", 1, seed=0, progress_bar=False)

    class Odd(Entropy):
        compilable = False

    composition = made([PPO(**SMALL)]).composition
    found = obstacle_to_compiling(composition, {"odd": Odd()}, composition.optimizer, torch.device("cpu"))
    assert found == "the losses of odd cannot be compiled"


def test_the_choice_is_recorded():
    agent = ComposedAgent([PPO(**SMALL)]).train("CartPole-v1", 40, seed=0, progress_bar=False)
    choice = agent.history()["runs"][-1]["choices"]["compiled"]
    assert choice["value"] is False
    assert "takes longer than it saves" in choice["reason"] or "compiler" in choice["reason"]


@pytest.mark.slow
@pytest.mark.skipif(not any(shutil.which(name) for name in ("g++", "clang++")), reason="there is no C++ compiler")
def test_compiled_training_is_resumed_exactly(tmp_path):
    def train(**arguments):
        agent = ComposedAgent([PPO(**SMALL), "rnd"], compiled=True)
        return agent.train("CartPole-v1", 200, n_environments=2, progress_bar=False, **{"seed": 3, **arguments})

    whole = train(checkpoint_every=60, checkpoint_directory=tmp_path)
    resumed = train(resume_from=list_checkpoints(tmp_path)[-1][1], seed=None)
    mine, theirs = whole.composition.tensors(), resumed.composition.tensors()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
