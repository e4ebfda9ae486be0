"""`rl-framework push`."""

from __future__ import annotations

from typing import Annotated

import typer

from rl_framework.cli import options
from rl_framework.cli.verb import Answer

__all__ = ["command"]


def command(
    run: options.RunName,
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE",
            help="For the connector, such as private=true or n_eval_episodes=20; see docs of the connector.",
            show_default=False,
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option("--to", help="hf://user/name, s3://bucket/path, sftp://..., or a folder.", show_default=False),
    ] = None,
    connector: Annotated[
        str | None, typer.Option("--connector", help="Name of a connector, such as clearml.", show_default=False)
    ] = None,
    video: Annotated[bool, typer.Option("--video/--no-video", help="Film a replay for it.")] = True,
    which: options.Which = "final",
) -> Answer:
    """Publish an agent with its evaluation, a replay and what was measured in its training.

    rl-framework push runs/ppo-CartPole-v1 --to hf://user/ppo-CartPole-v1 private=true

    Tokens are read from the environment (HF_TOKEN, AWS_SECRET_ACCESS_KEY, ...) or from where the service's own
    program keeps them, and never from the command line.
    """
    import shutil
    import tempfile
    from pathlib import Path

    from rl_framework.cli.sharing import connector_to, section_of
    from rl_framework.cli.trained import open_trained
    from rl_framework.secrecy import redact

    section = section_of(to, connector, settings or (), "--to")
    trained = open_trained(run, which)
    folder = Path(tempfile.mkdtemp(prefix="rl-framework-push-")) if trained.run is None else trained.run.folder
    opened = connector_to(section, folder)
    results = None if trained.run is None or which != "final" else trained.run.results
    if results is not None and hasattr(opened, "log_evaluation"):
        opened.log_evaluation(results)
    try:
        place = trained.agent.upload(opened, video_recording_environment=trained.filmed_in() if video else None)
    finally:
        opened.close()
    if trained.run is None:
        shutil.rmtree(folder)  # after a failure it holds what was to be sent
    shown = redact(str(place))
    return Answer({"run": run, "connector": section["type"], "place": shown}, [shown])
