"""The losses of parts can be traced in one graph and differentiated as functions: only then a step can be compiled."""

import pytest
import torch
from gymnasium import spaces
from tests.agent.reinforcement.parts.hand_made import ACTIONS, BOX, CPU, SMALL, rollout_of
from tests.agent.reinforcement.parts.test_demonstration import some_episodes

from rl_framework.agent.reinforcement.composed.compiled import CompiledUpdate
from rl_framework.agent.reinforcement.composed.composition import Composition, Settings
from rl_framework.agent.reinforcement.composed.update import Update
from rl_framework.agent.reinforcement.parts import PPO, SAC, Demonstration, Entropy, KLPenalty, Replay, SelfImitation

CHOICES = spaces.Discrete(3)
COMPOSITIONS = {
    "sac": (lambda: [SAC(hidden_sizes=[8]), Replay(learning_starts=0, batch_size=8)], ACTIONS),
    "discrete sac": (lambda: [SAC(hidden_sizes=[8]), Replay(learning_starts=0, batch_size=8)], CHOICES),
    "ppo and all": (
        lambda: [
            PPO(batch_size=16, n_epochs=2),
            KLPenalty(),
            Entropy({"type": "linear", "start": 0.1}),
            Demonstration(some_episodes(), batch_size=8),
            SelfImitation(batch_size=8),
        ],
        ACTIONS,
    ),
}


@pytest.mark.parametrize("case", COMPOSITIONS)
def test_a_traced_step_is_the_step(case):
    make, action_space = COMPOSITIONS[case]
    settings = Settings({"default": SMALL}, {"type": "adam", "eps": 1e-5}, 1e-3, 0.5, False, False)
    results = []
    for traced in (False, True):
        made = Composition(make(), settings, BOX, action_space, CPU, seed=0)
        if traced:
            update = CompiledUpdate(made, made.named, made.optimizer, 0.5, backend="eager")
        else:
            update = Update(made.named, made.optimizer, 0.5)
        for part in made.named.values():
            part.start()
        for seed in range(2):
            ended = {"terminated": torch.arange(16).reshape(8, 2) > 9}
            actions = torch.randint(3, (8, 2), generator=torch.Generator().manual_seed(seed))
            given = {"actions": actions, **ended} if action_space is CHOICES else ended
            made.learn_from(rollout_of(torch.arange(16.0).reshape(8, 2), seed=seed, **given), update)
        results.append((made.tensors(), update.count, update.measured.means()))
    (plain, count, told), (traced, also, also_told) = results
    assert count == also >= 2
    assert plain.keys() == traced.keys()
    for name, tensor in plain.items():
        assert torch.allclose(tensor.double(), traced[name].double(), atol=1e-5), name
    assert told == pytest.approx(also_told, rel=1e-3, abs=1e-5)
