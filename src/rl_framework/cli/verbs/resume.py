"""`rl-framework resume`."""

from __future__ import annotations

from typing import Annotated

import typer

from rl_framework.cli import options
from rl_framework.cli.verb import Answer

__all__ = ["command"]


def command(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Folder of the run.", show_default=False)],
    total_timesteps: Annotated[
        int | None,
        typer.Option("--total-timesteps", help="Train until then, counted from the beginning.", show_default=False),
    ] = None,
    device: options.Device = None,
    overrides: options.Overrides = None,
) -> Answer:
    """Go on with a run from its newest whole checkpoint, or do what is left to do after its training.

    rl-framework resume runs/ppo-CartPole-v1

    rl-framework resume runs/ppo-CartPole-v1 --total-timesteps 200000
    """
    from typing import Any

    from rl_framework.cli.configuration import in_words_of_options
    from rl_framework.cli.running import run as run_experiment
    from rl_framework.cli.trained import find_run
    from rl_framework.errors import ConfigurationError
    from rl_framework.experiment import Experiment

    found = find_run(run)
    given = {"--total-timesteps": ("training.total_timesteps", total_timesteps), "--device": ("device", device)}
    changes = [f"{key}={value}" for key, value in given.values() if value is not None]

    def make(**injected: Any) -> tuple[Experiment, list[str]]:
        try:
            return found.experiment([*changes, *(overrides or ())], **injected), []
        except ConfigurationError as error:
            raise in_words_of_options(error, {key: option for option, (key, _) in given.items()}) from error

    return run_experiment(make, is_resumed=True)
