"""Files for use elsewhere, of agents whose policy is one of Stable-Baselines3."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rl_framework.errors import ArgumentError

if TYPE_CHECKING:
    from rl_framework.agent.reinforcement.stable_baselines import StableBaselinesAgent

__all__ = ["PolicyExports"]


class PolicyExports:
    """What an agent's policy can be turned into: what that of a `StableBaselinesAgent` can."""

    spaces_are_inferred: bool

    def policy_to_export(self) -> StableBaselinesAgent:
        """Returns an agent that acts alike, of which the files are made.

        Raises:
            NotTrainedError: The agent has no policy yet.
            ArgumentError: Its policy is none of Stable-Baselines3, or its spaces were guessed.
        """
        from rl_framework.agent.reinforcement.stable_baselines import StableBaselinesAgent

        if self.spaces_are_inferred:
            raise ArgumentError(
                "agent",
                self,
                "its spaces were guessed from its data, and a file would state them",
                "Say where it acts: StableBaselinesAgent.from_agent(agent, environment=...) has the same methods.",
            )
        return StableBaselinesAgent.from_agent(self)

    def save_as_onnx(self, path: str | os.PathLike[str], opset: int = 18) -> Path:
        """Writes the acting part as one ONNX file; see `StableBaselinesAgent.save_as_onnx`.

        Raises:
            NotTrainedError: The agent has no policy yet.
            MissingExtraError: The extra "onnx" is not installed.
            ArgumentError: The policy cannot be exported.
        """
        return self.policy_to_export().save_as_onnx(path, opset)

    def save_as_torch_export(self, path: str | os.PathLike[str]) -> Path:
        """Writes the acting part as a `torch.export` file (.pt2); see `StableBaselinesAgent.save_as_torch_export`.

        Raises:
            NotTrainedError: The agent has no policy yet.
            ArgumentError: The policy cannot be exported.
        """
        return self.policy_to_export().save_as_torch_export(path)

    def save_for_unity(self, path: str | os.PathLike[str], **options: Any) -> Path:
        """Writes the acting part as a model for Unity's ML-Agents; see `StableBaselinesAgent.save_for_unity`.

        Raises:
            NotTrainedError: The agent has no policy yet.
            MissingExtraError: The extra "onnx" is not installed.
            UnsupportedSpaceError: The observations or actions are none that a behaviour in Unity can have.
            ArgumentError: The policy cannot be exported.
        """
        return self.policy_to_export().save_for_unity(path, **options)
