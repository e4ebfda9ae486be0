from __future__ import annotations

import errno
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rl_framework.connector import delivery as delivery_module
from rl_framework.connector import spool as spool_module
from rl_framework.connector import spool_folder
from rl_framework.connector.delivery import Delivery, Item
from rl_framework.connector.leftovers import sync
from rl_framework.connector.spool import Spool, SpoolInUseError
from rl_framework.errors import ConnectorError
from rl_framework.retry import RetryPolicy

PATIENCE = 60.0
SOON = RetryPolicy(attempts=None, first_wait=0.001, longest_wait=0.002)
NEVER = RetryPolicy(first_wait=3600.0, longest_wait=3600.0, jitter=0.0)


class RefusalError(Exception):
    """As clients raise them: with the answer of the service."""

    def __init__(self, status: int, headers: dict[str, str] | None = None, message: str = "no") -> None:
        super().__init__(message)
        self.response = type("Response", (), {"status_code": status, "headers": headers or {}})()


class Service:
    """Takes items, or fails as it is told to."""

    def __init__(self, *failures: Exception | None, is_down: bool = False) -> None:
        self.failures = list(failures)
        self.is_down = is_down
        self.items: list[Item] = []
        self.n_calls = 0
        self.up = threading.Event()
        self.up.set()
        self.called = threading.Event()

    def __call__(self, item: Item) -> None:
        self.n_calls += 1
        self.called.set()
        assert self.up.wait(PATIENCE)
        if self.is_down:
            raise ConnectionError("down")
        if self.failures and (failure := self.failures.pop(0)) is not None:
            raise failure
        self.items.append(item)

    @property
    def sequences(self) -> list[int]:
        return [item.data["n"] for item in self.items]


def _down() -> Service:
    """Fails however often it is tried: letting go of a delivery makes it try once more."""
    return Service(is_down=True)


def _put(delivery: Delivery, n: int) -> None:
    for number in range(n):
        delivery.put("number", {"n": number})


def test_everything_arrives_in_order_and_the_spool_goes_away() -> None:
    service = Service()
    delivery = Delivery("the service", service, "spool")
    assert not Path("spool").exists()
    _put(delivery, 100)
    assert delivery.drain(PATIENCE) == 0
    assert service.sequences == list(range(100))
    assert delivery.close() == 0
    assert not Path("spool").exists()
    delivery.put("number", {"n": 100})  # it can be used again
    assert delivery.close() == 0
    assert service.sequences[-1] == 100


def test_put_does_not_wait_for_the_service() -> None:
    service = Service()
    service.up.clear()
    delivery = Delivery("the service", service, "spool")
    _put(delivery, 50)
    assert service.called.wait(PATIENCE)
    assert (delivery.drain(0.0), service.items) == (50, [])
    service.up.set()
    assert delivery.close(PATIENCE) == 0
    assert service.sequences == list(range(50))


def test_numbers_of_numpy_are_numbers() -> None:
    service = Service()
    delivery = Delivery("the service", service, "spool")
    delivery.put("metrics", {"a": np.float32(0.5), "b": np.arange(3), "path": Path("x"), "bad": float("nan")})
    assert delivery.close(PATIENCE) == 0
    data = service.items[0].data
    assert (data["a"], data["b"], data["path"]) == (0.5, [0, 1, 2], "x")
    assert np.isnan(data["bad"])


def test_what_is_no_data_is_an_error_and_takes_no_place() -> None:
    service = Service()
    delivery = Delivery("the service", service, "spool")
    with pytest.raises(TypeError, match="object is no JSON-able data"):
        delivery.put("metrics", {"a": object()})
    with pytest.raises(FileNotFoundError, match="missing"):
        delivery.put("file", {}, Path("missing"))
    delivery.put("number", {"n": 0})
    assert delivery.close(PATIENCE) == 0
    assert [item.sequence for item in service.items] == [0]


# Failures that pass


def test_a_passing_failure_is_tried_again_and_those_behind_wait(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    service = Service(None, ConnectionError("down"), TimeoutError("slow"), RefusalError(503))
    delivery = Delivery("the service", service, "spool", retry=SOON)
    _put(delivery, 5)
    assert delivery.close(PATIENCE) == 0
    assert service.sequences == list(range(5))
    assert service.n_calls == 8
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert "cannot be reached: ConnectionError: down" in warnings[0].getMessage()


def test_an_attempt_of_unknown_end_is_told() -> None:
    service = Service(ConnectionError("cut"))
    delivery = Delivery("the service", service, "spool", retry=SOON)
    _put(delivery, 2)
    delivery.close(PATIENCE)
    assert [item.attempts for item in service.items] == [1, 0]


def test_waits_grow_and_the_service_may_ask_for_more() -> None:
    failures = [
        *[RefusalError(503)] * 4,
        RefusalError(429, {"Retry-After": "30"}),
        RefusalError(503, {"Retry-After": "9999"}),
    ]
    service, waits = Service(*failures), []
    policy = RetryPolicy(attempts=None, first_wait=1.0, longest_wait=5.0, jitter=0.0, longest_retry_after=100.0)
    delivery = Delivery("the service", service, "spool", retry=policy, wait=waits.append)
    _put(delivery, 1)
    assert delivery.close(PATIENCE) == 0
    assert waits == [1.0, 2.0, 4.0, 5.0, 30.0, 100.0]


def test_draining_does_not_wait_for_the_back_off() -> None:
    service = Service(ConnectionError("down"))
    delivery = Delivery("the service", service, "spool", retry=NEVER)
    _put(delivery, 1)
    assert service.called.wait(PATIENCE)
    assert delivery.close(PATIENCE) == 0


def test_a_dead_service_costs_a_bounded_wait_and_one_line(caplog: pytest.LogCaptureFixture) -> None:
    service = _down()
    delivery = Delivery("the service", service, "spool", retry=SOON)
    _put(delivery, 3)
    assert service.called.wait(PATIENCE)
    assert delivery.close(0.05) == 3
    delivery.report()
    delivery.report()
    assert len(caplog.records) == 2  # that it is down, and what is left
    assert "3 items have not reached the service" in caplog.records[-1].getMessage()
    assert "connector.sync()" in caplog.records[-1].getMessage()
    again = Service()
    assert sync("spool", again) == 3
    assert again.sequences == [0, 1, 2]
    assert not Path("spool").exists()


# Failures that do not pass


def test_a_refused_item_is_set_aside_and_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    service = Service(None, RefusalError(400, message="malformed"), RefusalError(400, message="malformed"))
    delivery = Delivery("the service", service, "spool")
    _put(delivery, 5)
    assert delivery.close(PATIENCE) == 2
    assert service.sequences == [0, 3, 4]
    assert service.n_calls == 5
    assert [record.getMessage().count("malformed") for record in caplog.records] == [1]
    stubborn = Service(RefusalError(400, message="malformed"))
    with pytest.raises(ConnectorError, match=r"1 items were refused, and 1 delivered: .*malformed"):
        sync("spool", stubborn)
    assert stubborn.sequences == [2]  # those behind it are not held up
    again = Service()
    assert sync("spool", again) == 1
    assert again.sequences == [1]


def test_a_sync_that_is_in_vain_loses_nothing() -> None:
    service = Service(RefusalError(401))
    delivery = Delivery("the service", service, "spool")
    _put(delivery, 3)
    delivery.close(PATIENCE)
    for failure in (RefusalError(401), ConnectionError("down"), ConnectionError("down")):
        waits: list[float] = []
        policy = RetryPolicy(attempts=1)
        with pytest.raises(ConnectorError, match="3 items are kept in"):
            sync("spool", Service(failure), policy=policy, wait=waits.append)
    again = Service()
    assert sync("spool", again) == 3
    assert again.sequences == [0, 1, 2]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_who_is_refused_altogether_stops_asking(status: int, caplog: pytest.LogCaptureFixture) -> None:
    service = Service(RefusalError(status))
    delivery = Delivery("the service", service, "spool", explain=lambda error: "set HF_TOKEN")
    _put(delivery, 5)
    assert delivery.drain(PATIENCE) == 5
    delivery.put("number", {"n": 5})
    assert (service.n_calls, delivery.n_left) == (1, 6)
    assert [record.getMessage().count("set HF_TOKEN") for record in caplog.records] == [1]
    delivery.resume()
    assert delivery.close(PATIENCE) == 0
    assert service.sequences == list(range(6))


@pytest.mark.parametrize("error", [RefusalError(400), RefusalError(401)], ids=["one", "all"])
def test_a_refusal_is_told_before_anybody_goes_on(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who drains and ends the process would end it before the thread has said why something is left."""
    n_left_when_told: list[int] = []

    def tell(*arguments: Any) -> None:
        n_left_when_told.append(delivery._spool.n_waiting if delivery._halted is None else 0)

    monkeypatch.setattr(delivery_module.logger, "error", tell)
    delivery = Delivery("the service", Service(error), "spool")
    _put(delivery, 1)
    assert delivery.drain(PATIENCE) == 1
    assert n_left_when_told == [1]


def test_a_mistake_in_the_code_ends_no_training(caplog: pytest.LogCaptureFixture) -> None:
    service = Service(KeyError("oh"))
    delivery = Delivery("the service", service, "spool")
    _put(delivery, 2)
    assert delivery.close(PATIENCE) == 1
    assert service.sequences == [1]
    assert "KeyError: 'oh'" in caplog.text


def test_a_mistake_in_what_judges_failures_hangs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    service = Service(ConnectionError("down"))
    delivery = Delivery("the service", service, "spool", explain=lambda error: 1 / 0)  # type: ignore[arg-type, return-value]
    _put(delivery, 2)
    assert delivery.close(PATIENCE) == 2
    assert "the delivery to the service failed: ZeroDivisionError" in caplog.text
    assert sync("spool", Service()) == 2


# Letting go


def test_what_others_delivered_is_known_and_a_spool_in_use_is_left_alone() -> None:
    service = _down()
    delivery = Delivery("the service", service, "spool", retry=SOON)
    _put(delivery, 2)
    assert (delivery.close(0.01), delivery.n_left, delivery.is_in_use) == (2, 2, False)
    other = Spool(Path("spool"))
    assert sync("spool", Service()) == 0  # it is in use
    assert delivery.drain(0.0) == 2
    service.is_down = False
    delivery.put("number", {"n": 2})  # into another folder
    assert delivery.close(PATIENCE) == 0
    assert service.sequences == [2]
    other.close()
    third = Service()
    assert sync("spool", third) == 2
    assert third.sequences == [0, 1]


def test_what_others_have_just_delivered_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever delivers the last item removes the spool, at whatever moment another one looks at it."""
    service = Service(RefusalError(401))
    delivery = Delivery("the service", service, "spool")
    _put(delivery, 2)
    assert delivery.close(PATIENCE) == 2
    lock, others = spool_module.locked, Service()

    def overtaken(path: Path) -> Any:
        monkeypatch.setattr(spool_module, "locked", lock)
        sync("spool", others)
        return lock(path)

    monkeypatch.setattr(spool_module, "locked", overtaken)
    assert sync("spool", Service()) == 0
    assert others.sequences == [0, 1]
    _put(delivery, 2)
    assert delivery.close() == 2  # in a spool that is new
    monkeypatch.setattr(spool_module, "locked", overtaken)
    delivery.resume()
    delivery.put("number", {"n": 7})
    assert delivery.close(PATIENCE) == 0
    assert service.sequences == [7]
    assert others.sequences == [0, 1, 0, 1]


@pytest.mark.skipif(spool_folder.fcntl is None, reason="Windows locks otherwise")
@pytest.mark.parametrize("is_made_anew", [True, False], ids=["made anew", "gone"])
def test_a_lock_that_was_removed_is_none(is_made_anew: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between opening and locking: two would each have a lock, and deliver the same."""
    flock = spool_folder.fcntl.flock

    def overtaken(*arguments: Any) -> None:
        Path("lock").unlink()
        if is_made_anew:
            Path("lock").touch()
        flock(*arguments)

    monkeypatch.setattr(spool_folder.fcntl, "flock", overtaken)
    if is_made_anew:
        assert spool_folder.locked(Path("lock")) is None
    else:
        with pytest.raises(FileNotFoundError):
            spool_folder.locked(Path("lock"))


def test_after_a_sync_by_others_nothing_is_left() -> None:
    service = Service(RefusalError(401))
    delivery = Delivery("the service", service, "spool")
    _put(delivery, 2)
    assert delivery.close(PATIENCE) == 2
    assert delivery.release()  # a second time
    assert delivery.n_left == 2
    assert sync("spool", Service()) == 2
    assert delivery.n_left == 0
    delivery.resume()
    delivery.put("number", {"n": 7})
    assert delivery.close(PATIENCE) == 0
    assert service.sequences == [7]


@pytest.fixture
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Letting go does not wait for a service that does not answer."""
    monkeypatch.setattr(delivery_module, "_PATIENCE_WITH_CALL", 0.01)


def test_a_service_that_does_not_answer_keeps_its_item_safe(in_a_hurry: None) -> None:
    service = Service()
    service.up.clear()
    delivery = Delivery("the service", service, "spool")
    _put(delivery, 3)
    assert service.called.wait(PATIENCE)
    assert delivery.close(0.0) == 3
    assert sync("spool", Service()) == 0
    service.up.set()
    assert delivery.close(PATIENCE) == 0
    assert service.sequences == [0, 1, 2]


def test_letting_go_waits_for_a_thread_that_is_in_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which a machine that has much to do may keep from going on: that is no service that does not answer."""
    explains, waits = threading.Event(), threading.Event()

    def explain(error: Exception) -> str:
        explains.set()
        assert waits.wait(PATIENCE)
        return "down"

    delivery = Delivery("the service", _down(), "spool", explain=explain, retry=NEVER)
    _put(delivery, 1)
    assert explains.wait(PATIENCE)
    wait = delivery._condition.wait
    monkeypatch.setattr(delivery._condition, "wait", lambda *limit: (waits.set(), wait(*limit)))
    monkeypatch.setattr(delivery_module, "_PATIENCE_WITH_CALL", 0.0)
    assert delivery.release()
    assert sync("spool", Service()) == 1


def test_a_late_answer_leaves_no_empty_spool(in_a_hurry: None) -> None:
    service = Service()
    service.up.clear()
    delivery = Delivery("the late service", service, "spool")
    _put(delivery, 1)
    assert service.called.wait(PATIENCE)
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "delivery to the late service"]
    assert delivery.close(0.0) == 1
    service.up.set()
    thread.join(PATIENCE)  # nobody closes the delivery again
    assert not Path("spool").exists()
    assert delivery.n_left == 0


# Files


def test_a_file_may_go_away_and_is_delivered_as_it_was() -> None:
    service = Service()
    service.up.clear()
    contents: list[bytes] = []
    delivery = Delivery("the service", lambda item: (service(item), contents.append(item.file.read_bytes())), "spool")
    Path("checkpoint.zip").write_bytes(b"first")
    delivery.put("checkpoint", {"n": 0}, "checkpoint.zip")
    Path("new").write_bytes(b"second")
    Path("new").replace("checkpoint.zip")  # as everything here is written
    delivery.put("checkpoint", {"n": 1}, "checkpoint.zip")
    Path("checkpoint.zip").unlink()
    service.up.set()
    assert delivery.drain(PATIENCE) == 0
    assert contents == [b"first", b"second"]
    assert list(Path("spool/files").iterdir()) == []
    delivery.close()


def test_where_links_cannot_be_made_files_are_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError(errno.EXDEV, "another disk")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    test_a_file_may_go_away_and_is_delivered_as_it_was()


def test_names_in_a_spool_lead_nowhere_else() -> None:
    Path("out").write_text("mine")
    delivery = Delivery("the service", _down(), "spool", retry=NEVER)
    delivery.put("file", {"n": 0}, "out")
    delivery.close(0.0)
    line = json.loads(Path("spool/items.jsonl").read_text())
    line["file"] = "../../out"
    Path("spool/items.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(ConnectorError, match="damaged"):
        sync("spool", Service())
    assert Path("out").exists()


# The process ends


def _python(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


KILLED = """
import sys
from rl_framework.connector.delivery import Delivery
def deliver(item):
    with open("arrived", "a") as file:
        file.write(f"{item.data['n']}\\n")
    if item.data["n"] == 9:
        print("nine\\n", end="", flush=True)
        sys.stdin.read()
delivery = Delivery("the service", deliver, "spool")
for n in range(30):
    delivery.put("number", {"n": n})
delivery.flush()
print("flushed\\n", end="", flush=True)
delivery.drain()
"""


def test_sigkill_loses_nothing_and_sync_delivers_the_rest() -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert {process.stdout.readline().strip(), process.stdout.readline().strip()} == {"nine", "flushed"}
    with pytest.raises(SpoolInUseError, match="in use"):
        Spool(Path("spool"))
    assert sync("spool", Service()) == 0  # it is in the hands of a living process
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=PATIENCE)
    service = Service()
    assert sync("spool", service) == 21
    assert Path("arrived").read_text().split() == [str(n) for n in range(10)]
    assert service.sequences == list(range(9, 30))  # the tenth had begun, and nobody heard of its end
    assert [item.attempts for item in service.items[:2]] == [1, 0]
    assert sync("spool", service) == 0


def test_a_line_that_was_cut_is_left_out() -> None:
    delivery = Delivery("the service", _down(), "spool", retry=NEVER)
    _put(delivery, 2)
    delivery.close(0.0)
    with Path("spool/items.jsonl").open("a") as file:
        file.write('{"sequence": 2, "ki')
    service = Service()
    again = Delivery("the service", service, "spool")
    again.put("number", {"n": 2})
    assert again.close(PATIENCE) == 0
    assert service.sequences == [0, 1, 2]


ENDS = """
import logging, sys, threading
from rl_framework.connector.delivery import Delivery
from rl_framework.connector import delivery as module
n_lines = int(sys.argv[1])
module._PATIENCE_AT_EXIT = 60.0 if n_lines == 5 else 0.2
logging.basicConfig(format="%(message)s")
has_failed = threading.Event()
def deliver(item):
    if item.data["n"] >= n_lines:
        has_failed.set()
        raise ConnectionError("down")
    with open("arrived", "a") as file:
        file.write(f"{item.data['n']}\\n")
delivery = Delivery("the service", deliver, "spool")
for n in range(5):
    delivery.put("number", {"n": n})
if n_lines < 5:
    assert has_failed.wait(60.0)
"""


@pytest.mark.parametrize("n_arriving", [5, 2])
def test_the_interpreter_ends_after_a_bounded_time(n_arriving: int) -> None:
    process = _python(ENDS, str(n_arriving))
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert Path("arrived").read_text().split() == [str(n) for n in range(n_arriving)]
    left = f"{5 - n_arriving} items have not reached the service"
    assert (left in errors) == (n_arriving < 5)
    if n_arriving < 5:
        service = Service()
        assert sync("spool", service) == 5 - n_arriving
        assert service.sequences == list(range(n_arriving, 5))


def _exit_code_of_child(action: Callable[[], object]) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # threads of libraries, which the child does not need
        child = os.fork()
    if child == 0:
        code = 1
        try:
            action()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_forked_process_has_a_spool_of_its_own() -> None:
    service = Service()
    service.up.clear()
    delivery = Delivery("the service", service, "spool", destination={"to": "here"})
    _put(delivery, 2)

    def act() -> None:
        delivery.put("number", {"n": 100})
        delivery.flush()

    assert _exit_code_of_child(act) == 0
    service.up.set()
    assert delivery.close(PATIENCE) == 0
    assert service.sequences == [0, 1]
    assert sync("spool", service, destination={"to": "elsewhere"}) == 0
    assert sync("spool", service, destination={"to": "here"}) == 1
    assert service.sequences == [0, 1, 100]


def test_a_process_is_forked_between_two_steps_of_the_delivery(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of one, the child would have a queue that is half changed, and locks that nobody opens."""
    is_inside, may_go_on, states, begin = threading.Event(), threading.Event(), list[str](), Spool.begin

    def slowly(spool: Spool, item: Item) -> None:
        states.append("in the middle")
        is_inside.set()
        assert may_go_on.wait(PATIENCE)
        begin(spool, item)
        states.append("done")

    monkeypatch.setattr(Spool, "begin", slowly)
    service = Service()
    service.up.clear()  # until the child has ended, which would deliver its own item too
    delivery = Delivery("the service", service, "spool")
    _put(delivery, 1)
    assert is_inside.wait(PATIENCE)
    acquire = delivery._condition.acquire
    monkeypatch.setattr(delivery._condition, "acquire", lambda: (may_go_on.set(), acquire()))

    def act() -> None:
        assert states == ["in the middle", "done"]
        delivery.put("number", {"n": 100})
        delivery.flush()

    code = _exit_code_of_child(act)
    may_go_on.set()
    service.up.set()
    assert code == 0
    assert delivery.close(PATIENCE) == 0
    assert sync("spool", service) == 1
    assert service.sequences == [0, 100]


def test_many_threads_lose_nothing() -> None:
    service = Service(*[ConnectionError("down"), None] * 5)
    delivery = Delivery("the service", service, "spool", retry=SOON)
    threads = [threading.Thread(target=_put, args=(delivery, 50)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert delivery.close(PATIENCE) == 0
    assert [item.sequence for item in service.items] == list(range(400))
    assert sorted(service.sequences) == sorted([*range(50)] * 8)


# The disk is full


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A disk that can be filled."""
    state: dict[str, Any] = {"full": False}
    append, written_whole = spool_module.append_line, spool_module.written_whole

    def failing_append(file: Any, line: bytes) -> None:
        if state["full"]:
            raise OSError(errno.ENOSPC, "No space left on device")
        append(file, line)

    def failing_whole(path: Path) -> Any:
        if state["full"]:
            raise OSError(errno.ENOSPC, "No space left on device")
        return written_whole(path)

    monkeypatch.setattr(spool_module, "append_line", failing_append)
    monkeypatch.setattr(spool_module, "written_whole", failing_whole)
    return state


@pytest.mark.parametrize("full_from", [0, 3])
def test_a_full_disk_ends_nothing(full_from: int, disk: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    service = Service()
    service.up.clear()
    delivery = Delivery("the service", service, "spool")
    for n in range(6):
        disk["full"] = n >= full_from
        delivery.put("number", {"n": n})
    assert caplog.text.count("No space left") == 1
    delivery.flush()
    disk["full"] = False
    delivery.flush()
    assert len(Path("spool/items.jsonl").read_text().splitlines()) == 6
    service.up.set()
    assert delivery.close(PATIENCE) == 0
    assert service.sequences == list(range(6))


def test_a_disk_that_stays_full_hinders_no_delivery(disk: dict[str, Any]) -> None:
    disk["full"] = True
    service = Service()
    delivery = Delivery("the service", service, "spool")
    _put(delivery, 6)
    assert delivery.close(PATIENCE) == 0
    assert service.sequences == list(range(6))


def test_half_a_line_is_taken_back() -> None:
    with Path("file").open("ab+", buffering=0) as file:
        spool_folder.append_line(file, b"whole\n")

        class Full:
            def __getattr__(self, name: str) -> Any:
                return getattr(file, name)

            def write(self, line: bytes) -> int:
                return file.write(line[:3])

        with pytest.raises(OSError, match=r"[Ss]pace"):
            spool_folder.append_line(Full(), b"second\n")  # type: ignore[arg-type]
    assert Path("file").read_bytes() == b"whole\n"


# Secrets


def test_tokens_are_in_no_spool_and_in_no_message(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    token = "zz" + "topsecretvalue" * 2
    monkeypatch.setenv("HF_TOKEN", token)
    service = Service(RefusalError(401, message=f"Authorization: Bearer {token} is wrong"))
    delivery = Delivery("the service", service, "spool")
    delivery.put("record", {"command": f"--my-token {token}"})
    assert delivery.close(PATIENCE) == 1
    delivery.report()
    written = "".join(path.read_text() for path in Path("spool").iterdir())
    assert token not in written + caplog.text
    assert "***" in written
    assert "***" in caplog.text


def test_what_is_drawn_for_the_waits_leaves_the_training_alone() -> None:
    import random

    before = random.getstate()
    RetryPolicy().wait_after(3)
    assert random.getstate() == before
