"""Names for the classes of torch, Stable-Baselines3 and imitation that parameters usually hold.

All entries are lazy: naming them imports none of the libraries.
"""

from __future__ import annotations

from rl_framework.registry import activations, features_extractors, optimizers, replay_buffers

_ACTIVATIONS = {
    "celu": "CELU",
    "elu": "ELU",
    "gelu": "GELU",
    "glu": "GLU",
    "hardshrink": "Hardshrink",
    "hardsigmoid": "Hardsigmoid",
    "hardswish": "Hardswish",
    "hardtanh": "Hardtanh",
    "identity": "Identity",
    "leaky_relu": "LeakyReLU",
    "log_sigmoid": "LogSigmoid",
    "log_softmax": "LogSoftmax",
    "mish": "Mish",
    "prelu": "PReLU",
    "relu": "ReLU",
    "relu6": "ReLU6",
    "rrelu": "RReLU",
    "selu": "SELU",
    "sigmoid": "Sigmoid",
    "silu": "SiLU",
    "softmax": "Softmax",
    "softmin": "Softmin",
    "softplus": "Softplus",
    "softshrink": "Softshrink",
    "softsign": "Softsign",
    "tanh": "Tanh",
    "tanhshrink": "Tanhshrink",
}
_OPTIMIZERS = {
    "adadelta": "Adadelta",
    "adafactor": "Adafactor",
    "adagrad": "Adagrad",
    "adam": "Adam",
    "adamax": "Adamax",
    "adamw": "AdamW",
    "asgd": "ASGD",
    "nadam": "NAdam",
    "radam": "RAdam",
    "rmsprop": "RMSprop",
    "rprop": "Rprop",
    "sgd": "SGD",
}
_FEATURES_EXTRACTORS = {"flatten": "FlattenExtractor", "nature_cnn": "NatureCNN", "combined": "CombinedExtractor"}
_REPLAY_BUFFERS = {
    "replay_buffer": "stable_baselines3.common.buffers:ReplayBuffer",
    "dict_replay_buffer": "stable_baselines3.common.buffers:DictReplayBuffer",
    "n_step": "stable_baselines3.common.buffers:NStepReplayBuffer",
    "her": "stable_baselines3.her.her_replay_buffer:HerReplayBuffer",
}

for _name, _class in _ACTIVATIONS.items():
    activations.register(_name, f"torch.nn:{_class}")
for _name, _class in _OPTIMIZERS.items():
    optimizers.register(_name, f"torch.optim:{_class}")
optimizers.register("rmsprop_tf_like", "stable_baselines3.common.sb2_compat.rmsprop_tf_like:RMSpropTFLike")
for _name, _class in _FEATURES_EXTRACTORS.items():
    features_extractors.register(_name, f"stable_baselines3.common.torch_layers:{_class}")
features_extractors.register("normalize", "imitation.policies.base:NormalizeFeaturesExtractor")
for _name, _address in _REPLAY_BUFFERS.items():
    replay_buffers.register(_name, _address)
