"""What GAIL and AIRL need, besides the generator's state and the weights, to go on as if nothing had been.

It is taken between two rounds, when the wrappers around the environments have handed over what they collected. What it
takes was found by leaving pieces out and looking at the difference that made.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rl_framework.agent.imitation.library.observation_rows import ObservationRows, as_one_array
from rl_framework.agent.reinforcement.library.state.optimizer_state import give_optimizer, take_optimizer
from rl_framework.bundle import Bundle
from rl_framework.environment import BatchedEnvironment

__all__ = ["give_adversarial_state", "take_adversarial_state"]

_STATE, _TENSORS, _ARRAYS = (f"adversarial/{name}" for name in ("state.json", "tensors.safetensors", "arrays.npz"))
_OPTIMIZER = "discriminator"
_KEPT = ("obs", "acts", "next_obs", "dones")


def take_adversarial_state(trainer: Any) -> dict[str, Any]:
    """Returns the members of a bundle that resuming needs.

    Args:
        trainer: The library's `AdversarialTrainer`, between two rounds.
    """
    tensors: dict[str, torch.Tensor] = {}
    buffer = trainer._gen_replay_buffer._buffer
    state = {
        "optimizer": take_optimizer(_OPTIMIZER, trainer._disc_opt, tensors),
        "horizon": None if trainer._horizon is None else int(trainer._horizon),
        "n_data": int(buffer._n_data),
        "idx": int(buffer._idx),
    }
    arrays: dict[str, NDArray[Any]] = {f"buffer/{name}": buffer._arrays[name][: buffer._n_data] for name in _KEPT}
    wrapper = trainer.venv_wrapped
    if hasattr(wrapper, "episode_rewards"):  # there is none with debug_use_ground_truth
        arrays["cumulative_rewards"] = wrapper._cumulative_rew
        arrays["episode_rewards"] = np.array(wrapper.episode_rewards, dtype=np.float64)
    return {_STATE: state, _TENSORS: tensors, _ARRAYS: arrays}


def give_adversarial_state(
    trainer: Any, bundle: Bundle, batch: BatchedEnvironment, rows: ObservationRows | None
) -> None:
    """Puts the state of a checkpoint into a trainer whose generator and environments are where they were.

    Args:
        trainer: As in `take_adversarial_state`.
        bundle: The checkpoint.
        batch: The environments.
        rows: What the library's wrappers see instead of dicts.

    Raises:
        ValueError: The state does not fit. What a crafted state can raise besides is of any type.
    """
    state, arrays = bundle.json(_STATE), bundle.arrays(_ARRAYS)
    give_optimizer(_OPTIMIZER, trainer._disc_opt, state["optimizer"], bundle.tensors(_TENSORS))
    horizon = state["horizon"]
    if horizon is not None and (type(horizon) is not int or horizon < 1):
        raise ValueError(f"the horizon is {horizon!r}")
    trainer._horizon = horizon
    _give_buffer(trainer._gen_replay_buffer._buffer, state, arrays)
    _give_wrappers(trainer, arrays, batch, rows)


def _give_buffer(buffer: Any, state: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
    count, position = state["n_data"], state["idx"]
    if type(count) is not int or type(position) is not int or not 0 <= count <= buffer.capacity:
        raise ValueError(f"the generator's buffer holds {count!r} transitions and stands at {position!r}")
    if (position != count % buffer.capacity and count != buffer.capacity) or not 0 <= position < buffer.capacity:
        raise ValueError(f"the generator's buffer holds {count} transitions and stands at {position}")
    for name in _KEPT:
        saved, own = arrays[f"buffer/{name}"], buffer._arrays[name]
        if saved.shape != (count, *own.shape[1:]) or saved.dtype != own.dtype:
            raise ValueError(f"the generator's buffer has {name} of shape {saved.shape} and type {saved.dtype}")
        own[:count] = saved
    buffer._arrays["infos"].fill({})  # nobody reads them
    buffer._n_data, buffer._idx = count, position


def _give_wrappers(
    trainer: Any, arrays: dict[str, NDArray[Any]], batch: BatchedEnvironment, rows: ObservationRows | None
) -> None:
    """Lets the wrappers stand where the environments do; they stand at a reset."""
    from imitation.data.rollout import TrajectoryAccumulator

    wrapper = trainer.venv_wrapped
    if "episode_rewards" in arrays and hasattr(wrapper, "episode_rewards"):
        rewards = arrays["episode_rewards"]
        if rewards.ndim != 1 or rewards.dtype != np.float64 or not np.isfinite(rewards).all():
            raise ValueError(f"the episodes' learned rewards have shape {rewards.shape} and type {rewards.dtype}")
        known: deque[float] = wrapper.episode_rewards  # the library's callback holds the same object
        known.clear()
        known.extend(rewards)
    last = trainer.gen_algo._last_obs
    if last is None:  # these environments cannot be replayed: new episodes begin
        return
    last = as_one_array(last, rows)
    buffering, lengths = trainer.venv_buffering, _lengths(batch)
    buffering._traj_accum = TrajectoryAccumulator()
    for slot, observation in enumerate(np.array(last)):
        buffering._traj_accum.add_step({"obs": observation}, key=slot)
    buffering._timesteps = lengths
    buffering._init_reset, buffering.n_transitions = True, 0
    if "cumulative_rewards" in arrays and hasattr(wrapper, "episode_rewards"):
        sums = arrays["cumulative_rewards"]
        if sums.shape != (batch.num_envs,) or sums.dtype != np.float64 or not np.isfinite(sums).all():
            raise ValueError(f"sums of learned rewards have shape {sums.shape} and type {sums.dtype}")
        wrapper._cumulative_rew = np.where(lengths > 0, sums, 0.0)
        wrapper._old_obs = last


def _lengths(batch: BatchedEnvironment) -> NDArray[Any]:
    return np.array([len(episode.actions) for episode in batch.open_episodes()], dtype=int)
