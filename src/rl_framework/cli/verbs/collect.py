"""`rl-framework collect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rl_framework.cli import options
from rl_framework.cli.verb import Answer

__all__ = ["command"]


def command(
    run: Annotated[
        str, typer.Argument(metavar="RUN|random", help="Who acts, or random for actions by chance.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the data set; it must not be there.")],
    env: options.Environment = None,
    backend: options.Backend = None,
    episodes: Annotated[int, typer.Option("--episodes", help="How many episodes.")] = 100,
    deterministic: options.Deterministic = False,
    seed: options.Seed = None,
    n_environments: options.NEnvironments = None,
    which: options.Which = "final",
) -> Answer:
    """Record episodes of an agent, or of chance, as a data set.

    rl-framework collect runs/ppo-CartPole-v1 --episodes 20 --deterministic --out data/expert

    rl-framework collect random --env CartPole-v1 --episodes 20 --out data/random
    """
    from typing import Any

    from rl_framework.cli.trained import open_trained
    from rl_framework.environment.backends import environment_source
    from rl_framework.episode import EpisodeSequence
    from rl_framework.errors import ArgumentError

    who: Any
    arguments: dict[str, Any] | None
    if run == "random":
        if env is None and backend is None:
            raise ArgumentError("--env", None, "is needed: chance has been trained nowhere", "Such as CartPole-v1.")
        who = "random"
        source, arguments = environment_source(backend or "gymnasium", env)
    else:
        trained = open_trained(run, which)
        who = trained.agent
        source, arguments = trained.environment(env, backend)
    sequence = EpisodeSequence.collect(
        who,
        source,
        episodes,
        seed,
        deterministic=bool(deterministic),
        n_environments=n_environments,
        environment_kwargs=arguments or None,
        progress_bar=True,
        path=out,
    )
    statistics = sequence.statistics()
    data = {
        "run": run,
        "path": str(out),
        "n_episodes": len(sequence),
        "n_transitions": sequence.n_transitions,
        "mean_return": float(sequence.returns.mean()),
        "returns": sequence.returns.tolist(),
        "lengths": sequence.lengths.tolist(),
    }
    return Answer(data, [str(statistics), f"Episodes: {out}"])
