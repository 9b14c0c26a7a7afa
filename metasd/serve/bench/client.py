"""One server of OpenAI's protocol: its models, one streamed answer with the time of its parts, its Prometheus metrics.

The standard library's HTTP client: a thread a request spends its time waiting.
"""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from metasd.core import shown
from metasd.core.errors import MetaSDError, UsageError

DONE = "[DONE]"
SAID = 200
"""Characters of a server's complaint that are shown."""


class ServerError(MetaSDError):
    """A request that failed: what the server said, or how the connection ended."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What every request asks for. raw: of /v1/completions, without a chat template; ignore_eos: vLLM's extension."""

    model: str
    max_tokens: int
    temperature: float = 0.0
    raw: bool = False
    ignore_eos: bool = False

    def body(self, messages: Sequence[Mapping[str, str]], stop: Sequence[str]) -> tuple[str, dict[str, Any]]:
        """(path, JSON) of the request for an answer to ``messages``."""
        made: dict[str, Any] = {"model": self.model, "max_tokens": self.max_tokens, "temperature": self.temperature}
        made |= {"stream": True, "stream_options": {"include_usage": True}}
        made |= {"stop": list(stop)} if stop else {}
        made |= {"ignore_eos": True} if self.ignore_eos else {}
        if self.raw:
            return "/v1/completions", made | {"prompt": messages[-1]["content"]}
        return "/v1/chat/completions", made | {"messages": list(messages)}


@dataclass(frozen=True, slots=True)
class Answer:
    """Seconds from the request: to the first text, None without any, and to the end; tokens as the server counts
    them, None where it does not; pieces: parts of text that came."""

    first: float | None
    seconds: float
    tokens: int | None
    pieces: int

    @property
    def per_token(self) -> float | None:
        """Seconds an output token behind the first; None where that is unknown or there is none."""
        if self.tokens is None or self.first is None or self.tokens < 2:
            return None
        return (self.seconds - self.first) / (self.tokens - 1)


class Server:
    """The server at ``url`` (``http://host:port``, with or without ``/v1``). Raises UsageError for no such URL.

    key: sent as bearer token. timeout: seconds without a byte after which a request has failed.
    """

    def __init__(self, url: str, *, key: str | None = None, timeout: float = 600.0) -> None:
        parts = urlsplit(url)
        try:
            known = (
                parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
            )
        except ValueError:  # a port that is none
            known = False
        if not known:
            raise UsageError(f"--server {url!r} is no URL; give one like http://localhost:8000")
        self.url, self._parts, self._timeout = url.rstrip("/").removesuffix("/v1"), parts, timeout
        self._base = parts.path.rstrip("/").removesuffix("/v1")
        self._open: dict[http.client.HTTPConnection, socket.socket] = {}  # a connection forgets its socket early
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})

    def models(self) -> list[str]:
        """Ids of the models it serves. Raises UsageError where nobody answers, or not as such a server does."""
        try:
            with self._connected() as connection:
                said = json.loads(self._said(connection, "GET", "/v1/models"))
            return [str(model["id"]) for model in said["data"]]
        except ServerError as error:
            raise UsageError(f"server {self.url}: {error}; start it, or give another --server") from error
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"server {self.url} answers /v1/models with something else than a list of models; give a server that "
                "speaks OpenAI's protocol"
            ) from error

    def metrics(self) -> str | None:
        """The text of its Prometheus metrics; None where it has none."""
        try:
            with self._connected() as connection:
                return self._said(connection, "GET", "/metrics").decode(errors="replace")
        except ServerError:
            return None

    def answer(self, path: str, body: Mapping[str, Any]) -> Answer:
        """Ask, and read the stream to its end. Raises ServerError."""
        began = time.perf_counter()
        first: float | None = None
        tokens: int | None = None
        pieces = 0
        sent = json.dumps(body)
        with self._connected() as connection, self._response(connection, "POST", path, sent) as response:
            for event in _events(response):
                if _text(event):
                    pieces += 1
                    if first is None:
                        first = time.perf_counter() - began
                usage = event.get("usage")
                if isinstance(usage, dict) and isinstance(usage.get("completion_tokens"), int):
                    tokens = usage["completion_tokens"]
        return Answer(first, time.perf_counter() - began, tokens, pieces)

    def drop(self) -> None:
        """End all requests that are under way, each with a ServerError: for whoever will not wait for them."""
        for held in list(self._open.values()):
            with suppress(OSError):
                held.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def _connected(self) -> Iterator[http.client.HTTPConnection]:
        kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(self._parts.hostname or "", self._parts.port, timeout=self._timeout)
        try:
            yield connection
        finally:
            self._open.pop(connection, None)
            connection.close()

    def _said(self, connection: http.client.HTTPConnection, method: str, path: str) -> bytes:
        try:
            with self._response(connection, method, path, None) as response:
                return response.read()
        except (OSError, http.client.HTTPException) as error:
            raise ServerError(f"the answer to {path} was cut ({_reason(error)})") from error

    def _response(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: str | None
    ) -> http.client.HTTPResponse:
        try:
            connection.request(method, self._base + path, body, self._headers)
            self._open[connection] = connection.sock
            response = connection.getresponse()
            if response.status != 200:
                with response:
                    said = shown.message(response.read(4 * SAID).decode(errors="replace"))[:SAID]
                raise ServerError(f"HTTP {response.status} of {path}" + (f" ({said})" if said else ""))
            return response
        except (OSError, http.client.HTTPException) as error:
            raise ServerError(_reason(error)) from error


def _events(response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    """The JSON of every server-sent event up to the one that ends the stream. Raises ServerError where that lacks."""
    count = 0
    try:
        for line in response:
            if not line.startswith(b"data:"):
                continue
            said = line[len(b"data:") :].decode().strip()
            if said == DONE:
                return
            event = json.loads(said)
            if "error" in event:
                raise ServerError(f"an error inside the stream: {shown.message(event['error'])[:SAID]}")
            count += 1
            yield event
    except (OSError, http.client.HTTPException) as error:
        raise ServerError(f"the stream was cut after {count} events ({_reason(error)})") from error
    except (ValueError, TypeError) as error:
        raise ServerError(f"event {count + 1} of the stream is no JSON") from error
    raise ServerError(f"the stream was cut after {count} events: it ended without {DONE}")


def _text(event: Mapping[str, Any]) -> str:
    """What an event adds to the answer, reasoning included; of chat and of completions."""
    said = ""
    for choice in event.get("choices") or ():
        delta = choice.get("delta") or {}
        said += "".join(delta.get(key) or "" for key in ("content", "reasoning_content", "reasoning"))
        said += choice.get("text") or ""
    return said


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "nothing came within the time allowed"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return shown.reason(error) if str(error) else type(error).__name__
