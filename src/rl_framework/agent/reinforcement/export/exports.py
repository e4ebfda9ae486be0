"""The ways out of the framework that agents offer, and the way in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import torch

__all__ = ["Exports", "ProgramExports"]


class ProgramExports:
    """What agents with networks can be turned into for use elsewhere."""

    def save_as_onnx(self, path: str | os.PathLike[str], opset: int = 18) -> Path:
        """Writes the acting part as one ONNX file, which chooses the same actions as `choose_action`.

        Inputs are raw observations with a free batch axis (normaliser, one-hot and image scaling are inside), the
        output is the deterministic action; see `rl_framework.agent.reinforcement.export.programs` for the names.

        Args:
            path: Where to.
            opset: Version of ONNX's operators, at least 18.

        Returns:
            The path.

        Raises:
            NotTrainedError: The agent has no model yet.
            MissingExtraError: The extra "onnx" is not installed.
            ArgumentError: A part of the agent cannot be exported.
        """
        from rl_framework.agent.reinforcement.export.programs import save_as_onnx

        return save_as_onnx(self, path, opset)

    def export_program(self) -> torch.export.ExportedProgram:
        """Returns the acting part as a `torch.export` program; see `save_as_onnx`."""
        from rl_framework.agent.reinforcement.export.programs import export_program

        return export_program(self)

    def save_as_torch_export(self, path: str | os.PathLike[str]) -> Path:
        """Writes the acting part as a `torch.export` file (.pt2); see `save_as_onnx`."""
        from rl_framework.agent.reinforcement.export.programs import save_as_torch_export

        return save_as_torch_export(self, path)


class Exports(ProgramExports):
    """What a `StableBaselinesAgent` can be turned into besides."""

    def save_for_unity(self, path: str | os.PathLike[str], **options: Any) -> Path:
        """Writes the acting part as the ONNX file that Unity's ML-Agents takes for a model.

        Names, shapes and layout are ML-Agents' own; see `rl_framework.agent.reinforcement.export.unity`.

        Args:
            path: Where to; ".onnx" is what Unity imports.
            options: `opset`, `channels_first`, `hybrid_actions`; see
                `rl_framework.agent.reinforcement.export.unity.save_for_unity`.

        Returns:
            The path.

        Raises:
            NotTrainedError: The agent has no model yet.
            MissingExtraError: The extra "onnx" is not installed.
            UnsupportedSpaceError: The observations or actions are none that a behaviour in Unity can have.
            ArgumentError: A part of the agent cannot be exported.
        """
        from rl_framework.agent.reinforcement.export.unity import save_for_unity

        return save_for_unity(self, path, **options)

    def save_as_library_zip(self, path: str | os.PathLike[str]) -> Path:
        """Writes Stable-Baselines3's own .zip, which the library opens without this framework.

        Observation statistics go beside it, to `<stem>_vecnormalize.pkl`, as `VecNormalize.load` reads them.

        Returns:
            The path.

        Raises:
            NotTrainedError: The agent has no model yet.
            ArgumentError: The agent has a preprocessing stage, which the library does not know.
        """
        from rl_framework.agent.reinforcement.export.library_zip import save_as_library_zip

        return save_as_library_zip(self, path)

    @classmethod
    def from_library_zip(cls, path: str | os.PathLike[str], trust: bool = False, **options: Any) -> Self:
        """Builds an agent from Stable-Baselines3's own .zip.

        Args:
            path: The file. Observation statistics are read from `<stem>_vecnormalize.pkl` beside it, if it is there.
            trust: Has to be True: such files hold pickles, which can run any code when they are opened.
            options: `algorithm_class`, `normalize_path`, `algorithm_parameters`, `observation_space`; see
                `rl_framework.agent.reinforcement.export.library_zip`.

        Raises:
            ArgumentError: `trust` is not True, or the algorithm cannot be told from the file.
        """
        from rl_framework.agent.reinforcement.export.library_zip import agent_from_library_zip

        return agent_from_library_zip(cls, path, trust, **options)
