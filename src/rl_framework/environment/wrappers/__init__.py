"""Wrappers by name: what is put around every single environment, and saved with the agent that was trained in it."""

from rl_framework import registry
from rl_framework.environment.wrappers.specification import (
    WrapperSpecification,
    check_wrappers,
    wrap_environment,
    wrappers_around,
    wrappers_of,
)

__all__ = ["WrapperSpecification", "check_wrappers", "wrap_environment", "wrappers_around", "wrappers_of"]

# Lazily, so that nobody waits for gymnasium's wrappers, or needs the packages of those that are not used.
for _name, _address in {
    "action_rescale": "rl_framework.environment.wrappers.standard:rescale_action",
    "atari": "rl_framework.environment.wrappers.atari:atari",
    "clip_action": "gymnasium.wrappers:ClipAction",
    "filter_observation": "gymnasium.wrappers:FilterObservation",
    "flatten_observation": "gymnasium.wrappers:FlattenObservation",
    "frame_stack": "rl_framework.environment.wrappers.standard:stack_frames",
    "grayscale": "gymnasium.wrappers:GrayscaleObservation",
    "max_and_skip": "gymnasium.wrappers:MaxAndSkipObservation",
    "minigrid_flat": "rl_framework.environment.wrappers.minigrid:flat",
    "minigrid_image": "rl_framework.environment.wrappers.minigrid:image",
    "minigrid_rgb": "rl_framework.environment.wrappers.minigrid:rgb",
    "resize": "rl_framework.environment.wrappers.standard:resize",
    "reward_clip": "rl_framework.environment.wrappers.standard:RewardClip",
    "reward_scale": "rl_framework.environment.wrappers.standard:RewardScale",
    "sticky_actions": "rl_framework.environment.wrappers.standard:stick_to_actions",
    "time_aware": "gymnasium.wrappers:TimeAwareObservation",
    "time_limit": "gymnasium.wrappers:TimeLimit",
}.items():
    registry.register_wrapper(_name, _address)
