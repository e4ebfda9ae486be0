"""Headless Chromium, spoken to by its DevTools protocol over a pipe: no port, no library, no driver."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Self

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
"""The browser; None: there is none on this machine."""

_PATIENCE = 120.0
_OPTIONS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-sandbox",  # it does not start as root with one
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--hide-scrollbars",
    "--mute-audio",
    "--window-size=1200,900",
    # A mouse, which a browser without a screen would say that it has not.
    "--blink-settings=primaryHoverType=2,availableHoverTypes=2,primaryPointerType=4,availablePointerTypes=4",
)


class Chromium:
    """One browser with one page.

    Attributes:
        console: Errors and warnings that the page has told, and exceptions that nobody caught.
        requests: Addresses that it asked for.
        opened: What `open` has opened: path, width, and whether it is dark.
    """

    def __init__(self, profile: Path) -> None:
        assert PROGRAM is not None
        # The browser reads descriptor 3 and writes 4, so that ours must lie above them.
        (hears, self._writes), (self._reads, says) = (tuple(map(_above, os.pipe())) for _ in range(2))
        started = f'exec "$@" 3</dev/fd/{hears} 4>/dev/fd/{says}'
        command = [PROGRAM, *_OPTIONS, f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(
            ["sh", "-c", started, "sh", *command],
            pass_fds=(hears, says),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(hears)
        os.close(says)
        self._number = 0
        self._rest = b""
        self._session: str | None = None
        self._document: str | None = None
        self.console: list[str] = []
        self.requests: list[str] = []
        self.opened: tuple[Path, int, bool] | None = None
        try:
            target = self.call("Target.createTarget", url="about:blank")["targetId"]
            self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                self.call(f"{domain}.enable")
        except BaseException:
            self.close()
            raise

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Calls a method, and returns its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        content = json.dumps(message).encode() + b"\0"
        while content:
            content = content[os.write(self._writes, content) :]
        until = time.monotonic() + _PATIENCE
        while True:
            answer = self._next(until)
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return dict(answer["result"])
            self._note(answer)

    def _next(self, until: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._reads], [], [], max(0.0, until - time.monotonic()))
            part = os.read(self._reads, 1 << 20) if ready else b""
            if not part:
                raise TimeoutError("the browser has ended" if ready else "the browser does not answer")
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(message))

    def _note(self, event: dict[str, Any]) -> None:
        method, told = event.get("method"), event.get("params", {})
        if method == "Page.frameNavigated" and "parentId" not in told["frame"]:
            self._document = told["frame"]["loaderId"]
        elif method == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.console.append(json.dumps(told["exceptionDetails"])[:500])
        elif method == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning", "assert"):
            self.console.append(f"{told['type']}: {told['args']}")
        elif method == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            self.console.append(f"{told['entry']['level']}: {told['entry']['text']} {told['entry'].get('url', '')}")

    def evaluate(self, expression: str) -> Any:
        """Returns what an expression of JavaScript is, as JSON."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait_for(self, expression: str) -> Any:
        """Returns what an expression is as soon as it is true."""
        until = time.monotonic() + _PATIENCE
        while not (found := self.evaluate(expression)):
            assert time.monotonic() < until, f"{expression} is not true: {self.console}"
            time.sleep(0.05)
        return found

    def open(self, path: Path, *, width: int = 1200, height: int = 900, dark: bool = False) -> None:
        """Opens a report and waits until everything is drawn."""
        self.console.clear()
        self.requests.clear()
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.color_scheme("dark" if dark else "light")
        began = self.call("Page.navigate", url=path.resolve().as_uri())
        # Until then the document before it answers, which may be a report that is drawn.
        until = time.monotonic() + _PATIENCE
        while self._document != began["loaderId"]:
            self._note(self._next(until))
        self.wait_for("document.readyState === 'complete' && document.documentElement.dataset.drawn")
        self.opened = (path, width, dark)

    def color_scheme(self, name: str) -> None:
        """Lets the reader prefer "light" or "dark"."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def move_mouse(self, x: float, y: float) -> None:
        """Moves the pointer."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        """Writes a picture of the page."""
        taken = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(taken["data"]))

    def close(self) -> None:
        """Ends the browser."""
        for descriptor in (self._writes, self._reads):
            os.close(descriptor)
        # It ends by itself when nobody is at the other end of the pipe.
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _above(descriptor: int) -> int:
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(descriptor)
    return moved
