"""The buffers of sb3-contrib's MaskablePPO, for environments whose slots can be empty."""

from __future__ import annotations

from sb3_contrib.common.maskable.buffers import MaskableDictRolloutBuffer, MaskableRolloutBuffer

from rl_framework.agent.reinforcement.library.buffers.present_rollout import PresentRollout

__all__ = ["REPLACEMENTS", "PresentMaskableDictRolloutBuffer", "PresentMaskableRolloutBuffer"]


class PresentMaskableRolloutBuffer(PresentRollout, MaskableRolloutBuffer):
    """A `MaskableRolloutBuffer` for slots that can be empty."""


class PresentMaskableDictRolloutBuffer(PresentRollout, MaskableDictRolloutBuffer):
    """A `MaskableDictRolloutBuffer` for slots that can be empty."""


REPLACEMENTS: dict[type, type] = {
    MaskableRolloutBuffer: PresentMaskableRolloutBuffer,
    MaskableDictRolloutBuffer: PresentMaskableDictRolloutBuffer,
}
