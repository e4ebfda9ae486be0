"""Where agents are uploaded to and downloaded from: what connectors are to an agent."""

from __future__ import annotations

from typing import Any, Protocol

from rl_framework.errors import ArgumentError, ConnectorError
from rl_framework.progress import progress_bar

__all__ = ["Store", "check_store", "upload_agent"]


class Store(Protocol):
    """What an agent can be uploaded to and downloaded from; connectors are."""

    def upload(self, agent: Any, *, video_recording_environment: Any = None) -> Any:
        """Takes what it wants of the agent."""

    def download(self, agent: Any) -> Any:
        """Fetches a bundle and loads it into the agent."""


def check_store(connector: Any) -> None:
    """Refuses what is no connector.

    Raises:
        ArgumentError: It is none.
    """
    has_both = callable(getattr(connector, "upload", None)) and callable(getattr(connector, "download", None))
    if isinstance(connector, type) or not has_both:
        raise ArgumentError("connector", connector, "is no connector", 'Such as HuggingFaceConnector("user/name").')


def upload_agent(agent: Any, connector: Any, video_recording_environment: Any) -> Any:
    """Hands an agent over to a connector, or to each of a list that keeps agents; see `Agent.upload`."""
    connectors = list(connector) if isinstance(connector, list | tuple) else [connector]
    for each in connectors:
        check_store(each)
    if isinstance(connector, list | tuple):
        # Trackers, such as TensorBoard, may be in the list that was given to `train`.
        connectors = [each for each in connectors if getattr(each, "keeps_agents", True)]
    if not connectors:
        raise ArgumentError("connector", connector, "none of them keeps agents", "Such as LocalConnector().")
    answers, failures = [], []
    with progress_bar(len(connectors), "uploading", "agent") as bar:
        for each in connectors:
            try:
                answers.append(each.upload(agent, video_recording_environment=video_recording_environment))
            except ConnectorError as error:
                failures.append(error)
            bar.update()
    if failures:
        raise failures[0] if len(failures) == 1 else ConnectorError("; ".join(map(str, failures)))
    return answers if isinstance(connector, list | tuple) else answers[0]
