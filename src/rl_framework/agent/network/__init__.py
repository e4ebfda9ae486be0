"""Networks that agents share."""

from rl_framework.agent.network.features_extractor import FeaturesExtractor

__all__ = ["FeaturesExtractor"]
