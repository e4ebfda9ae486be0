"""One plug-in registry for everything that is called by a short name.

A bundle or a configuration names classes by these names and never by an import path, so that opening somebody
else's file can only lead to classes that the user has already chosen to have.

Three kinds of people give names: this package; the program, with a `register_...` call; and other installed packages,
through entry points (`rl_framework.algorithms`, ...), whose code is imported when one of their names is asked for. A
name of this package or of the program keeps its meaning whatever is installed. What another package offers can always
be asked for as `"<package>:<name>"`, and by its short name where nothing else has that name. Where two packages offer
one name, the short name is refused.
"""

from __future__ import annotations

from rl_framework.registry.registry import Entry, Registry

__all__ = [
    "Entry",
    "Registry",
    "activations",
    "agents",
    "algorithms",
    "all_registries",
    "connectors",
    "describe",
    "environment_adapters",
    "features_extractors",
    "imitation_algorithms",
    "networks",
    "offline_algorithms",
    "optimizers",
    "parts",
    "policies",
    "presets",
    "register_activation",
    "register_agent",
    "register_algorithm",
    "register_connector",
    "register_environment_adapter",
    "register_features_extractor",
    "register_network",
    "register_offline_algorithm",
    "register_optimizer",
    "register_part",
    "register_policy",
    "register_preset",
    "register_replay_buffer",
    "register_reward_network",
    "register_schedule",
    "register_wrapper",
    "replay_buffers",
    "reward_networks",
    "schedules",
    "wrappers",
]


def all_registries() -> list[Registry]:
    """Returns every registry of this module, in the order of their kinds."""
    found = [value for value in globals().values() if isinstance(value, Registry)]
    return sorted(found, key=lambda registry: registry.kind)


def describe(load: bool = False) -> list[Entry]:
    """Lists the entries of every registry, for `rl-framework list` and `doctor`; see `Registry.describe`."""
    return [entry for registry in all_registries() for entry in registry.describe(load)]


agents = Registry(
    "agent",
    "rl_framework.register_agent('my_agent', MyAgent)",
    group="rl_framework.agents",
    home="rl_framework.agent",
    base="rl_framework.agent:Agent",
)
algorithms = Registry(
    "algorithm",
    "rl_framework.register_algorithm('my_algorithm', MyAlgorithm)",
    group="rl_framework.algorithms",
    home="rl_framework.agent.reinforcement",
)
imitation_algorithms = Registry("imitation_algorithm", home="rl_framework.agent.imitation.algorithms")
offline_algorithms = Registry(
    "offline_algorithm",
    "rl_framework.register_offline_algorithm('my_algorithm', MyAlgorithm)",
    group="rl_framework.offline_algorithms",
    home="rl_framework.agent.imitation.offline_library.algorithms",
)
policies = Registry("policy", "rl_framework.register_policy('my_policy', MyPolicy)", group="rl_framework.policies")
features_extractors = Registry(
    "features_extractor",
    "rl_framework.register_features_extractor('my_extractor', MyExtractor)",
    group="rl_framework.features_extractors",
    home="rl_framework.bundle.allowed",
)
networks = Registry(
    "network",
    "rl_framework.register_network('my_network', MyNetwork)",
    group="rl_framework.networks",
    home="rl_framework.agent.network",
)
parts = Registry(
    "part",
    "rl_framework.register_part('my_part', MyPart)",
    group="rl_framework.parts",
    home="rl_framework.agent.reinforcement.parts",
    base="rl_framework.agent.reinforcement.parts:Part",
)
activations = Registry(
    "activation",
    "rl_framework.register_activation('my_activation', MyActivation)",
    group="rl_framework.activations",
    home="rl_framework.bundle.allowed",
)
optimizers = Registry(
    "optimizer",
    "rl_framework.register_optimizer('my_optimizer', MyOptimizer)",
    group="rl_framework.optimizers",
    home="rl_framework.bundle.allowed",
)
replay_buffers = Registry(
    "replay_buffer",
    "rl_framework.register_replay_buffer('my_buffer', MyBuffer)",
    group="rl_framework.replay_buffers",
    home="rl_framework.bundle.allowed",
)
reward_networks = Registry(
    "reward_network",
    "rl_framework.register_reward_network('my_network', MyRewardNet)",
    group="rl_framework.reward_networks",
    home="rl_framework.agent.imitation.reward_networks",
)
schedules = Registry(
    "schedule",
    "rl_framework.register_schedule('my_schedule', MySchedule)",
    group="rl_framework.schedules",
    home="rl_framework.agent.reinforcement.schedules",
)
environment_adapters = Registry(
    "environment_adapter",
    "rl_framework.register_environment_adapter('my_simulator', MyAdapter)",
    group="rl_framework.environment_adapters",
    home="rl_framework.environment",
    base="rl_framework.environment:EnvironmentAdapter",
)
wrappers = Registry(
    "wrapper",
    "rl_framework.register_wrapper('my_wrapper', MyWrapper)",
    group="rl_framework.wrappers",
    home="rl_framework.environment.wrappers",
)
connectors = Registry(
    "connector",
    "rl_framework.register_connector('my_connector', MyConnector)",
    group="rl_framework.connectors",
    home="rl_framework.connector",
    base="rl_framework.connector:Connector",
)
presets = Registry(
    "preset",
    "rl_framework.register_preset('my_algorithm/MyTask-v0', 'my_package.presets:MY_TASK')",
    group="rl_framework.presets",
    home="rl_framework.experiment.presets",
)

register_activation = activations.register
register_agent = agents.register
register_algorithm = algorithms.register
register_connector = connectors.register
register_environment_adapter = environment_adapters.register
register_features_extractor = features_extractors.register
register_network = networks.register
register_offline_algorithm = offline_algorithms.register
register_optimizer = optimizers.register
register_part = parts.register
register_policy = policies.register
register_preset = presets.register
register_replay_buffer = replay_buffers.register
register_reward_network = reward_networks.register
register_schedule = schedules.register
register_wrapper = wrappers.register
