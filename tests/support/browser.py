"""A headless Chromium driven over its DevTools protocol through a pipe: real clicks, keys, downloads and hovering.

Two pipes and JSON are all it takes, so no driver program, no port and no further package is needed.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = next((p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if p), None)
PATIENCE = 60.0  # seconds for one answer or one condition
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe"),
)


class Browser:
    """One tab. ``console``: what the page wrote there, errors that nobody caught included. ``requests``: addresses."""

    def __init__(self, process: subprocess.Popen[bytes], to: int, of: int) -> None:
        self.process, self._to, self._of = process, to, of
        self._rest, self._last, self._session = b"", 0, ""
        self.console: list[str] = []
        self.requests: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The answer of the browser to one command."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            told = self._next()
            if told.get("id") == self._last:
                assert "error" not in told, (method, told["error"])
                return dict(told["result"])
            self._note(told)

    def _next(self) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._of], [], [], max(end - time.monotonic(), 0))
            assert ready, "the browser says nothing"
            read = os.read(self._of, 1 << 20)
            assert read, "the browser is gone"
            self._rest += read
        told, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(told))

    def _note(self, told: dict[str, Any]) -> None:
        method, params = told.get("method"), told.get("params", {})
        if method == "Runtime.consoleAPICalled":
            self.console.append(" ".join(str(a.get("value", a.get("description"))) for a in params["args"]))
        elif method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.console.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Log.entryAdded":
            self.console.append(params["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])

    def open(self, address: str, *, width: int, height: int = 900, dark: bool = False) -> None:
        """Open a page at this size, in light or dark."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=address)
        self.wait("document.readyState === 'complete'")

    def do(self, script: str) -> Any:
        """The value of a JavaScript expression (a promise's once it is there), which must be JSON."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, script: str) -> Any:
        """``do(script)`` as soon as it is true."""
        end = time.monotonic() + PATIENCE
        while not (found := self.do(script)):
            assert time.monotonic() < end, f"never: {script}"
            time.sleep(0.03)
        return found

    def place(self, selector: str, x: float = 0.5, y: float = 0.5) -> tuple[float, float]:
        """A point of an element, as shares of its size, scrolled into view."""
        self.do(f"document.querySelector({json.dumps(selector)}).scrollIntoView({{block: 'center'}})")
        box = self.do(f"document.querySelector({json.dumps(selector)}).getBoundingClientRect().toJSON()")
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    def mouse(self, kind: str, at: tuple[float, float], **more: Any) -> None:
        self.call("Input.dispatchMouseEvent", type=kind, x=at[0], y=at[1], **more)

    def click(self, selector: str, x: float = 0.5, y: float = 0.5) -> None:
        self.drag(selector, (x, y), (x, y))

    def drag(self, selector: str, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Press at one point of an element and let go at another, shares of its size."""
        first, last = self.place(selector, *start), self.place(selector, *end)
        self.mouse("mouseMoved", first)
        self.mouse("mousePressed", first, button="left", buttons=1, clickCount=1)
        if first != last:
            for share in (0.3, 0.7, 1.0):
                at = tuple(a + share * (b - a) for a, b in zip(first, last, strict=True))
                self.mouse("mouseMoved", (at[0], at[1]), button="left", buttons=1)
        self.mouse("mouseReleased", last, button="left", buttons=0, clickCount=1)

    def type(self, selector: str, text: str) -> None:
        """Put ``text`` where ``selector`` is, in place of what was there."""
        self.do(f"document.querySelector({json.dumps(selector)}).focus()")
        self.do(f"document.querySelector({json.dumps(selector)}).select()")
        if text:
            self.call("Input.insertText", text=text)
        else:
            self.key("Delete")

    def key(self, name: str) -> None:
        self.call("Input.dispatchKeyEvent", type="keyDown", key=name, code=name, windowsVirtualKeyCode=_KEYS[name])
        self.call("Input.dispatchKeyEvent", type="keyUp", key=name, code=name, windowsVirtualKeyCode=_KEYS[name])

    def downloads_to(self, folder: Path) -> None:
        how = {"behavior": "allow", "downloadPath": str(folder), "eventsEnabled": False}
        self.call("Browser.setDownloadBehavior", **how)

    def picture(self, file: Path, *, whole: bool = False) -> None:
        """The page as PNG, ``whole`` or what is in view."""
        made = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(made["data"]))


_KEYS = {"Delete": 46, "Tab": 9, "Enter": 13, " ": 32}


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A fresh browser whose files are in ``profile``."""
    assert CHROMIUM is not None
    (commands, to), (of, answers) = os.pipe(), os.pipe()
    flags = " ".join(shlex.quote(flag) for flag in (*_FLAGS, f"--user-data-dir={profile}"))
    # the protocol's ends are 3 and 4 in the browser, whatever they are here
    start = f"exec 3<&{commands} 4>&{answers}; exec {shlex.quote(CHROMIUM)} {flags}"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(["/bin/bash", "-c", start], pass_fds=(commands, answers), **quiet)
    os.close(commands)
    os.close(answers)
    try:
        yield Browser(process, to, of)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(to)
        os.close(of)
