"""Experiments: one file or object that says what to train where, and the mediator that does it."""

from rl_framework.experiment.config import ExperimentConfig, agent_section, load_config
from rl_framework.experiment.experiment import Experiment
from rl_framework.experiment.run import Run
from rl_framework.experiment.tuning.tuning import Tuning, tune

__all__ = ["Experiment", "ExperimentConfig", "Run", "Tuning", "agent_section", "load_config", "tune"]
