"""Experiments: one file or object that says what to train where, and the mediator that does it."""

from rl_framework.experiment.config import ExperimentConfig, agent_section, load_config
from rl_framework.experiment.experiment import Experiment
from rl_framework.experiment.run import Run

__all__ = ["Experiment", "ExperimentConfig", "Run", "agent_section", "load_config"]
