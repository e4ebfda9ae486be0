from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector.utils import batch_space
from stable_baselines3.common.preprocessing import preprocess_obs
from torch import nn

from rl_framework.agent.network.preprocessing import joined, observation_encoder
from rl_framework.agent.network.trunk import build_trunk, is_visual
from rl_framework.errors import UnsupportedSpaceError

IMAGE = spaces.Box(0, 255, (3, 40, 44), np.uint8)
LAST = spaces.Box(0, 255, (40, 44, 3), np.uint8)
VECTOR = spaces.Box(-1, 1, (5,), np.float64)


def _tensors(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tensors(part) for key, part in value.items()}
    return torch.as_tensor(np.asarray(value))


def _batch(space: spaces.Space[Any], rows: int = 6) -> Any:
    batched = batch_space(space, rows)
    batched.seed(0)
    return _tensors(batched.sample())


@pytest.mark.parametrize(
    "space",
    [VECTOR, IMAGE, spaces.Discrete(5), spaces.MultiDiscrete([2, 3, 4]), spaces.MultiBinary(4)],
    ids=["vector", "image", "discrete", "multi_discrete", "multi_binary"],
)
def test_encodes_as_the_library(space: spaces.Space[Any]) -> None:
    encode, encoded_space = observation_encoder(space)
    observations = _batch(space)
    encoded = encode(observations)
    torch.testing.assert_close(encoded, preprocess_obs(observations, space), rtol=0, atol=0)
    assert encoded.dtype == torch.float32
    assert encoded_space.shape == encoded.shape[1:]
    assert all(encoded_space.contains(row.numpy()) for row in encoded)


def test_what_starts_elsewhere_is_counted_from_there() -> None:
    encode, _ = observation_encoder(spaces.Discrete(3, start=-1))
    assert encode(torch.tensor([-1, 1])).tolist() == [[1, 0, 0], [0, 0, 1]]
    encode, space = observation_encoder(spaces.MultiDiscrete(np.array([[2, 3]]), start=np.array([[5, 1]])))
    assert encode(torch.tensor([[[6, 1]]])).tolist() == [[0, 1, 1, 0, 0]]
    assert space.shape == (5,)


def test_images_get_the_channels_first() -> None:
    (first, first_space), (last, last_space) = observation_encoder(IMAGE), observation_encoder(LAST)
    images = _batch(IMAGE)
    assert first_space == last_space == spaces.Box(0, 1, (3, 40, 44), np.float32)
    torch.testing.assert_close(last(images.permute(0, 2, 3, 1)), first(images), rtol=0, atol=0)


def test_what_is_an_image() -> None:
    assert is_visual(IMAGE)
    assert is_visual(spaces.Box(0.0, 1.0, (8, 8, 1)))
    assert is_visual(spaces.Dict(a=VECTOR, b=LAST))
    assert not is_visual(spaces.Box(-1.0, 1.0, (8, 8, 1)))
    assert not is_visual(spaces.Box(0, 255, (8, 8), np.uint8))
    assert not is_visual(spaces.Dict(a=VECTOR))


def test_numbers_without_axes_become_vectors() -> None:
    encode, space = observation_encoder(spaces.Box(-1, 1, ()))
    assert encode(torch.tensor([0.5, 0.25])).tolist() == [[0.5], [0.25]]
    assert space.shape == (1,)


NESTED = spaces.Dict(
    left=spaces.Dict(camera=LAST, speed=spaces.Box(-1, 1, (2,))),
    right=spaces.Dict(camera=LAST),
    task=spaces.Discrete(3),
)


def test_dicts_lose_their_levels() -> None:
    encode, space = observation_encoder(NESTED)
    observations = _batch(NESTED)
    encoded = encode(observations)
    assert isinstance(space, spaces.Dict)
    assert {name: part.shape for name, part in space.items()} == {
        "left/camera": (3, 40, 44),
        "left/speed": (2,),
        "right/camera": (3, 40, 44),
        "task": (3,),
    }
    assert {name: tuple(part.shape[1:]) for name, part in encoded.items()} == {k: v.shape for k, v in space.items()}
    torch.testing.assert_close(encoded["left/speed"], observations["left"]["speed"])
    assert joined(encoded).shape == (6, 2 * 3 * 40 * 44 + 2 + 3)


def test_images_of_a_dict_go_through_networks_and_the_rest_is_appended() -> None:
    trunk = build_trunk("policy", {"type": "nature_cnn", "features": 10}, NESTED)
    observations = _batch(NESTED)
    features = trunk(observations)
    assert features.shape == (6, trunk.features_dim) == (6, 10 + 2 + 10 + 3)
    torch.testing.assert_close(features[:, 10:12], observations["left"]["speed"])
    torch.testing.assert_close(features[:, 22:], nn.functional.one_hot(observations["task"], 3).float())
    # Each camera has a network of its own.
    assert not torch.allclose(features[:, :10], features[:, 12:22])
    observations["right"]["camera"] = observations["right"]["camera"] // 2
    changed = (trunk(observations) != features).any(0)
    assert changed[12:22].any()
    assert not changed[:12].any()


@pytest.mark.parametrize(
    "space",
    [spaces.Tuple([VECTOR]), spaces.Dict(a=spaces.Text(5)), spaces.Dict()],
    ids=["tuple", "text_in_dict", "empty_dict"],
)
def test_other_spaces_are_refused(space: spaces.Space[Any]) -> None:
    with pytest.raises(UnsupportedSpaceError, match="observation_space"):
        build_trunk("policy", "mlp", space)
