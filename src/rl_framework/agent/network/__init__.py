"""Networks that agents share."""

from rl_framework import registry
from rl_framework.agent.network.features_extractor import FeaturesExtractor

__all__ = ["FeaturesExtractor"]

# Lazily: features extractors are known without torch.
for _name, _address in {
    "flatten": "mlp:Flatten",
    "gru": "gru:GRU",
    "impala_cnn": "impala_cnn:ImpalaCNN",
    "mlp": "mlp:MLP",
    "nature_cnn": "nature_cnn:NatureCNN",
}.items():
    registry.networks.register(_name, f"{__name__}.architectures.{_address}")
