"""What connectors to a service elsewhere have in common: training never waits for it, and nothing is lost."""

from __future__ import annotations

import logging
import re
import secrets
import time
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rl_framework.connector.base import Connector
from rl_framework.connector.delivery import Delivery, Item
from rl_framework.connector.leftovers import count_left, sync
from rl_framework.errors import ConnectorError
from rl_framework.retry import RetryPolicy, may_pass
from rl_framework.secrecy import describe_error
from rl_framework.training import Event, Training, TrainingEnded, TrainingFailed, TrainingStarted

__all__ = ["RemoteConnector"]

logger = logging.getLogger(__name__)

_SPOOLS = Path("runs") / ".spool"


class RemoteConnector(Connector):
    """A connector whose service may be slow, busy, or not there.

    What happens in training is put into a `Delivery`, whose thread calls `deliver`. At the end of training it waits for
    at most `patience` seconds; what is left then stays in the spool, for `sync`.

    A subclass implements `service`, `destination` and `deliver`, and may override `is_transient` and `explain`.

    Args:
        spool_directory: Where what has not arrived is kept; None: a new folder in `runs/.spool`.
        patience: Seconds for which the end of training waits for the service.
        retry: How soon a failed delivery is tried again, and how often a call that the user waits for.
    """

    def __init__(
        self,
        *,
        spool_directory: str | Path | None = None,
        patience: float = 10.0,
        retry: RetryPolicy | None = None,
    ) -> None:
        self._spool_directory = None if spool_directory is None else Path(spool_directory)
        self.patience = patience
        self.retry = retry or RetryPolicy()
        self._delivery: Delivery | None = None

    # What a subclass implements

    @property
    @abstractmethod
    def service(self) -> str:
        """Whom it goes to, for messages: "the Hub repository user/name"."""

    @abstractmethod
    def destination(self) -> dict[str, Any]:
        """Returns whom it goes to as JSON-able data without secrets, equal in every process that delivers there."""

    @abstractmethod
    def deliver(self, item: Item) -> None:
        """Delivers one item, or raises; called from another thread, and perhaps again with what has arrived."""

    def is_transient(self, error: Exception) -> bool:
        """Tells whether a failure may pass by itself."""
        return may_pass(error)

    def explain(self, error: Exception) -> str:
        """Says what to do about a failure, without secrets."""
        return describe_error(error)

    def put_buffered(self) -> None:
        """Puts what has been gathered and is not an item yet; nothing, where everything is put at once."""

    # What subclasses share

    @property
    def delivery(self) -> Delivery:
        """The queue; made when it is first asked for."""
        if self._delivery is None:
            self._delivery = Delivery(
                self.service,
                self.deliver,
                self._spool_directory or _new_spool(self.service),
                is_transient=self.is_transient,
                explain=self.explain,
                retry=self.retry,
                destination=self.destination(),
                remedy=f"{type(self).__name__}(...).sync()",
            )
        return self._delivery

    def log_metrics(self, metrics: Mapping[str, float], timestep: int, time: float) -> None:
        """Puts an item "metrics"."""
        self.delivery.put("metrics", {"metrics": dict(metrics), "timestep": timestep, "time": time})

    def log_record(self, record: Mapping[str, Any]) -> None:
        """Puts an item "record"."""
        self.delivery.put("record", {"record": dict(record)})

    def log_checkpoint(self, path: Path, timestep: int) -> None:
        """Puts an item "checkpoint" with the file."""
        self.delivery.put("checkpoint", {"name": path.name, "timestep": timestep}, path)

    def log_video(self, path: Path, name: str, timestep: int) -> None:
        """Puts an item "video" with the file."""
        self.delivery.put("video", {"name": name, "timestep": timestep}, path)

    def discard_after(self, timestep: int) -> None:
        """Puts an item "discard"."""
        self.delivery.put("discard", {"timestep": timestep})

    def flush(self) -> None:
        """Brings what has not arrived to the disk."""
        self.put_buffered()
        if self._delivery is not None:
            self._delivery.flush()

    def on_event(self, event: Event, training: Training) -> None:
        """Turns events into items; at the end of training, waits for their delivery, for a bounded time."""
        if isinstance(event, TrainingStarted) and event.resumed:
            self._tell_what_is_left()
        super().on_event(event, training)
        if isinstance(event, TrainingEnded | TrainingFailed) and self._delivery is not None:
            # Lets go of the spool too, so that another connector or process can deliver what is left.
            self._delivery.close(self.patience)
            self._delivery.report()

    def _tell_what_is_left(self) -> None:
        place = self._spool_directory or _SPOOLS
        n_left = count_left(place, self.destination()) if place.is_dir() else 0
        if n_left:
            logger.warning(
                "%s has not got everything of an earlier training: %d left in %s. Deliver it with %s(...).sync()",
                self.service,
                n_left,
                place.absolute(),
                type(self).__name__,
            )

    def sync(self) -> int:
        """Delivers what is left of this and earlier processes, as far as their spools lie side by side.

        Returns:
            How many items were delivered.

        Raises:
            ConnectorError: Something could not be delivered. It stays in the spool.
        """
        self.put_buffered()
        # The delivery of this process lets go of its spool, which is then one like the others.
        if self._delivery is not None and not self._delivery.release():
            raise ConnectorError(f"{self.service} has not answered yet: nothing else is sent before it has")
        n_delivered = sync(
            self._spool_directory or _SPOOLS,
            self.deliver,
            what=f"the delivery to {self.service}",
            is_transient=self.is_transient,
            explain=self.explain,
            policy=self.retry,
            destination=self.destination(),
        )
        if self._delivery is not None:
            self._delivery.resume()
        return n_delivered

    def close(self) -> None:
        """Waits for the delivery, for a bounded time, and ends the use of this connector."""
        self.put_buffered()
        if self._delivery is not None:
            self._delivery.close(self.patience)
            self._delivery.report()


def _new_spool(service: str) -> Path:
    name = re.sub(r"[^A-Za-z0-9]+", "-", service).strip("-")[:60]
    return _SPOOLS / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
