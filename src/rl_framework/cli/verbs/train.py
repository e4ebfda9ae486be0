"""`rl-framework train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rl_framework.cli import options
from rl_framework.cli.verb import Answer

__all__ = ["command"]

Algorithm = Annotated[
    str | None,
    typer.Option(
        "--algo",
        help="Algorithm of any library (ppo, bc, cql, ...), or parts that are put together (ppo+rnd).",
        show_default=False,
    ),
]
Network = Annotated[
    str | None,
    typer.Option("--net", help="Network: mlp, cnn, or a registered name.", show_default="as suits the observations"),
]
Episodes = Annotated[
    str | None,
    typer.Option(
        "--episodes",
        help="What to learn from: a data set on disk, minari:name, hub:user/name, or a Unity recording (.demo).",
        show_default=False,
    ),
]
Timesteps = Annotated[
    int | None, typer.Option("--total-timesteps", help="How long to train.", show_default="as the preset, or 100000")
]
LearningRate = Annotated[float | None, typer.Option("--lr", help="Learning rate.", show_default=False)]
Seeds = Annotated[str | None, typer.Option("--seeds", help="Several: 0,1,2 is a run for each.", show_default=False)]
UsePreset = Annotated[
    bool | None,
    typer.Option(
        "--preset/--no-preset",
        help="Tuned parameters for this algorithm and environment; by default where there are any.",
        show_default=False,
    ),
]
Config = Annotated[
    Path | None,
    typer.Option("--config", help="A YAML file; options and KEY=VALUE take precedence.", show_default=False),
]
RunDirectory = Annotated[Path | None, typer.Option("--run-dir", help="Where runs lie.", show_default="runs")]
Name = Annotated[str | None, typer.Option("--name", help="Of the run.", show_default="algorithm and environment")]
CheckpointEvery = Annotated[
    int | None,
    typer.Option("--checkpoint-every", help="Timesteps between checkpoints; 0: none.", show_default="a tenth"),
]
EvaluateEvery = Annotated[
    int | None,
    typer.Option("--evaluate-every", help="Timesteps between evaluations; keeps the best agent.", show_default=False),
]
EvaluationEpisodes = Annotated[
    int | None, typer.Option("--n-eval-episodes", help="Episodes of the evaluation at the end.", show_default="100")
]
RecordVideo = Annotated[bool, typer.Option("--record-video", help="Film the trained agent.", show_default=False)]
Connectors = Annotated[
    list[str] | None,
    typer.Option(
        "--connector",
        help="A tracker or store beside the run's folder, such as tensorboard; may be given several times.",
        show_default=False,
    ),
]
ProgressShown = Annotated[
    bool | None, typer.Option("--progress/--no-progress", help="Show how far it is.", show_default=False)
]


def command(
    algo: Algorithm = None,
    env: options.Environment = None,
    net: Network = None,
    backend: options.Backend = None,
    episodes: Episodes = None,
    total_timesteps: Timesteps = None,
    n_environments: options.NEnvironments = None,
    lr: LearningRate = None,
    device: options.Device = None,
    seed: options.Seed = None,
    seeds: Seeds = None,
    preset: UsePreset = None,
    config: Config = None,
    run_dir: RunDirectory = None,
    name: Name = None,
    checkpoint_every: CheckpointEvery = None,
    evaluate_every: EvaluateEvery = None,
    n_eval_episodes: EvaluationEpisodes = None,
    record_video: RecordVideo = False,
    connector: Connectors = None,
    progress: ProgressShown = None,
    overrides: options.Overrides = None,
) -> Answer:
    """Train an agent, then evaluate it.

    rl-framework train --algo ppo --net mlp --env CartPole-v1

    rl-framework train --algo bc --episodes data/cartpole_expert --env CartPole-v1

    rl-framework train --config walker.yaml training.total_timesteps=5000

    Each run has a folder of its own. Ctrl-C writes a checkpoint, and the last line is the command that goes on.
    """
    from rl_framework.cli.configuration import Asked, make_experiment, seeds_of
    from rl_framework.cli.running import run

    plain = {
        "--name": name,
        "--run-dir": None if run_dir is None else str(run_dir),
        "--device": device,
        "--seed": seed,
        "--seeds": seeds_of(seeds),
        "--backend": backend,
        "--env": env,
        "--n-environments": n_environments,
        "--total-timesteps": total_timesteps,
        "--checkpoint-every": checkpoint_every,
        "--evaluate-every": evaluate_every,
        "--n-eval-episodes": n_eval_episodes,
        "--progress": progress,
    }
    asked = Asked(
        plain,
        algo,
        net,
        lr,
        episodes,
        connector or (),
        record_video,
        file=config,
        preset=preset,
        overrides=overrides or (),
    )
    return run(lambda **injected: make_experiment(asked, **injected))
