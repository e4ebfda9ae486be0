"""Unity scenes made with ML-Agents, over the protocol of `mlagents_envs`.

The player that it is tested with is ours; no Unity build was run.
"""

from rl_framework.environment.unity.adapter import UnityEnvironmentAdapter
from rl_framework.environment.unity.protobuf_loader import load_mlagents_envs

__all__ = ["UnityEnvironmentAdapter", "load_mlagents_envs"]
