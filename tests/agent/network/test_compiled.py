"""What a compiled step needs: one graph without breaks, and gradients by `torch.func`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from rl_framework.agent.network.distributions import Gaussian, SquashedGaussian
from rl_framework.agent.network.policy import Policy
from rl_framework.agent.network.trunk import build_trunk
from rl_framework.agent.network.value import ValueNetwork

BOX = spaces.Box(-1, 1, (5,), np.float32)
DICT = spaces.Dict(image=spaces.Box(0, 255, (4, 4, 3), np.uint8), task=spaces.Discrete(3))
TWO = spaces.Box(-1, 1, (2,))
CASES: dict[str, tuple[Any, Any, str | None, Any]] = {
    "categorical": (BOX, spaces.Discrete(3), None, "mlp"),
    "multi_categorical": (BOX, spaces.MultiDiscrete([2, 3]), None, "mlp"),
    "bernoulli": (BOX, spaces.MultiBinary(3), None, "mlp"),
    "gaussian": (BOX, TWO, None, "mlp"),
    "squashed_gaussian": (BOX, TWO, "squashed_gaussian", {"type": "mlp", "activation": "relu"}),
    "dict": (DICT, spaces.Discrete(3), None, "mlp"),
    "recurrent": (BOX, spaces.Discrete(3), None, {"type": "gru", "hidden_size": 6}),
}
STEPS, ROWS = 2, 4


class _Losses(nn.Module):
    def __init__(self, observation_space: Any, action_space: Any, distribution: str | None, network: Any) -> None:
        super().__init__()
        trunk = build_trunk("shared", network, observation_space)
        self.policy = Policy(trunk, action_space, distribution)
        self.value = ValueNetwork(trunk)

    def forward(self, observations: Any, actions: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        trunk = self.policy.trunk
        if trunk.state_size:
            starts = torch.zeros(STEPS, ROWS, dtype=torch.bool)
            steps = observations.reshape(STEPS, ROWS, -1)
            features = trunk.unroll(steps, torch.zeros(ROWS, trunk.state_size), starts)[0].flatten(0, 1)
        else:
            features = trunk(observations)
        distribution = self.policy.of_features(features)
        value_loss = (self.value.of_features(features) - targets).square().mean()
        loss = -distribution.log_prob(actions).mean() - 0.01 * distribution.entropy().mean() + 0.5 * value_loss
        if isinstance(distribution, Gaussian | SquashedGaussian):
            sampled, log_probs = distribution.rsample_with_log_prob(actions)
            loss = loss + sampled.square().mean() + log_probs.mean()
        return loss + distribution.kl(distribution).mean()


@pytest.mark.parametrize("name", CASES)
def test_losses_are_one_graph(name: str) -> None:
    torch.manual_seed(0)
    torch._dynamo.reset()
    losses = _Losses(*CASES[name])
    rows = STEPS * ROWS
    observations: Any = torch.randn(rows, 5)
    if name == "dict":
        images = torch.randint(0, 256, (rows, 4, 4, 3), dtype=torch.uint8)
        observations = {"image": images, "task": torch.randint(0, 3, (rows,))}
    with torch.no_grad():
        if losses.policy.trunk.state_size:
            actions = torch.randint(0, 3, (rows,))
        else:
            actions, _ = losses.policy.act(observations)
    arguments = (observations, actions, torch.randn(rows))
    eager = losses(*arguments)
    eager.backward()
    expected = {name: parameter.grad for name, parameter in losses.named_parameters()}

    parameters = {name: parameter.detach() for name, parameter in losses.named_parameters()}

    def by_parameters(values: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.func.functional_call(losses, values, arguments)

    compiled = torch.compile(torch.func.grad_and_value(by_parameters), fullgraph=True, dynamic=False, backend="eager")
    gradients, loss = compiled(parameters)
    torch.testing.assert_close(loss, eager, rtol=1e-6, atol=1e-6)
    for parameter_name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[parameter_name], rtol=1e-5, atol=1e-6)


def test_convolutions_are_one_graph_for_ordinary_gradients() -> None:
    torch._dynamo.reset()
    value = ValueNetwork(
        build_trunk("value", {"type": "nature_cnn", "features": 4}, spaces.Box(0, 255, (36, 36, 1), np.uint8))
    )
    images = torch.randint(0, 256, (2, 36, 36, 1), dtype=torch.uint8)
    compiled = torch.compile(lambda images: value.of(images).sum(), fullgraph=True, dynamic=False, backend="aot_eager")
    compiled(images).backward()
    gradients = [parameter.grad for parameter in value.parameters()]
    value.zero_grad()
    value.of(images).sum().backward()
    for parameter, gradient in zip(value.parameters(), gradients, strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-5, atol=1e-6)
