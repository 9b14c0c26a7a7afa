"""Driving servers: what is counted and timed, and what is said of those that fail. Against servers made here."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from metasd.cli import main
from metasd.core.errors import UsageError
from metasd.serve.bench.client import Answer, Ask, Server, ServerError
from metasd.serve.bench.metrics import Speculation, between, speculation

PAGE = """# HELP vllm:spec_decode_num_drafts_total drafts
vllm:spec_decode_num_drafts_total{{engine="0",model_name="a b"}} {drafts}
vllm:spec_decode_num_draft_tokens_total{{engine="0",model_name="a b"}} {drafted}
vllm:spec_decode_num_accepted_tokens_total{{engine="0",model_name="a b"}} {accepted}
vllm:spec_decode_num_accepted_tokens_per_pos_total{{engine="0",position="0"}} 99
"""


class Fake(ThreadingHTTPServer):
    """Answers every prompt with four words in two pieces, and counts three drafts of two tokens, one accepted.

    fails: how an answer fails, by the prompt's text: "500", "cut", "error", "no usage", "not json", "quiet".
    """

    daemon_threads = True

    def __init__(self, *, fails: dict[str, str] | None = None, metrics: bool = True, delay: float = 0.0) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.fails, self.metrics, self.delay = fails or {}, metrics, delay
        self.asked: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.now, self.most, self.lock = set[int](), 0, threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Fake

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        if self.path == "/v1/models":
            self._page(200, json.dumps({"data": [{"id": "m"}, {"id": "n"}]}))
        elif self.path == "/metrics" and self.server.metrics:
            n = len(self.server.asked)
            self._page(200, PAGE.format(drafts=float(3 * n), drafted=float(6 * n), accepted=float(3 * n)))
        else:
            self._page(404, "")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.asked.append(body)
            self.server.paths.append(self.path)
            self.server.now.add(id(self))
            self.server.most = max(self.server.most, len(self.server.now))
        text = body["messages"][-1]["content"] if "messages" in body else body["prompt"]
        try:
            self._answer(self.server.fails.get(text), "messages" in body)
        finally:
            self._left()

    def _left(self) -> None:
        with self.server.lock:
            self.server.now.discard(id(self))

    def _answer(self, fails: str | None, chat: bool) -> None:
        if fails == "500":
            self._page(500, '{"error": "out of\nmemory"}')
            return
        self.send_response(200)
        self.end_headers()
        for piece in ("two words ", "and two"):
            time.sleep(self.server.delay)
            self._event({"choices": [{"delta": {"content": piece}} if chat else {"text": piece}]})
            if fails == "cut":
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            if fails == "error":
                self._event({"error": {"message": "no room"}})
                return
            if fails == "not json":
                self.wfile.write(b"data: {\n\n")
                return
            if fails == "quiet":
                time.sleep(3)
        if fails != "no usage":
            self._event({"choices": [], "usage": {"completion_tokens": 4}})
        self._left()  # before the client can send its next request
        self.wfile.write(b"data: [DONE]\n\n")

    def _event(self, said: dict[str, Any]) -> None:
        with suppress(BrokenPipeError):  # a client that has heard enough is gone
            self.wfile.write(b"data: " + json.dumps(said).encode() + b"\n\n")
            self.wfile.flush()

    def _page(self, status: int, text: str) -> None:
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def fake():
    made = []

    def make(**how: Any) -> Fake:
        made.append(Fake(**how))
        return made[-1]

    yield make
    for server in made:
        server.shutdown()
        server.server_close()


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    file = tmp_path / "p.jsonl"
    lines = [{"id": f"p{i}", "prompt": f"text {i}", "system": "be brief"} for i in range(6)]
    lines[0]["stop"] = ["end"]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def measured(capsys: pytest.CaptureFixture[str], *arguments: Any, code: int = 0) -> tuple[dict[str, Any], list[str]]:
    assert main(["bench", "serve", *map(str, arguments), "--json"]) == code
    out, err = capsys.readouterr()
    return json.loads(out), err.splitlines()


def test_two_servers_in_turn_at_two_concurrencies(fake: Any, prompts: Path, tmp_path: Path, capsys: Any) -> None:
    one, other = fake(delay=0.05), fake(metrics=False)
    figure = tmp_path / "f.svg"
    given = ["--server", one.url, "--server", other.url + "/v1/", "--prompts", prompts, "--svg", figure]
    said, err = measured(capsys, *given, "--concurrency", 1, "--concurrency", 3, "--max-new-tokens", 9)
    rows = said["results"]
    assert [(r["server"], r["concurrency"]) for r in rows] == [
        (one.url, 1), (other.url, 1), (one.url, 3), (other.url, 3)
    ]  # fmt: skip
    assert {(r["requests"], r["failed"], r["tokens"], r["model"]) for r in rows} == {(6, 0, 24, "m")}
    assert (one.most, len(one.asked)) == (3, 13)  # one beforehand
    asked = next(body for body in one.asked if body["messages"][-1]["content"] == "text 0")
    wanted = {"model": "m", "max_tokens": 9, "temperature": 0.0, "stream": True, "stop": ["end"]}
    assert asked.items() >= (wanted | {"stream_options": {"include_usage": True}}).items()
    assert [m["role"] for m in asked["messages"]] == ["system", "user"]
    first = rows[0]
    assert first["tokens_per_second"] == pytest.approx(24 / first["seconds"])
    assert 0.05 <= first["first_token_seconds_p50"] <= first["request_seconds_p50"] - 0.05
    assert first["token_seconds_p50"] >= 0.05 / 3  # behind the first of four tokens
    assert first["request_seconds_p50"] <= first["request_seconds_p90"] <= first["request_seconds_p99"]
    assert rows[2]["seconds"] < first["seconds"]
    assert (first["acceptance"], first["tokens_per_draft"], first["drafted"]) == (0.5, 2.0, 36)
    assert rows[1]["acceptance"] is rows[1]["tokens_per_draft"] is None
    assert "asking (requests): 24/24" in err[-1]
    assert figure.read_text().count("<circle") == 3 * 4
    capsys.readouterr()
    assert main(["bench", "serve", *map(str, given)]) == 0
    out = capsys.readouterr().out
    assert one.url in out
    assert "50.0%" in out


def test_completions_are_asked_for_without_a_template(fake: Any, tmp_path: Path, capsys: Any) -> None:
    server, file = fake(), tmp_path / "one.txt"
    file.write_text("text")
    given = ["--server", server.url, "--prompts", file, "--concurrency", 1, "--raw", "--model", "n", "--ignore-eos"]
    said, _ = measured(capsys, *given)
    assert said["results"][0]["tokens"] == 4
    assert server.paths == ["/v1/completions"] * 2
    assert (server.asked[-1]["prompt"], server.asked[-1]["model"]) == ("text", "n")
    assert server.asked[-1]["ignore_eos"] is True


def test_requests_that_fail_are_counted_and_told(fake: Any, prompts: Path, capsys: Any) -> None:
    server = fake(fails={"text 1": "500", "text 2": "cut", "text 3": "error", "text 4": "not json", "text 5": "quiet"})
    given = ["--server", server.url, "--prompts", prompts, "--concurrency", 2, "--timeout", 1.5]
    said, err = measured(capsys, *given, code=1)
    (row,) = said["results"]
    assert (row["requests"], row["failed"], row["tokens"]) == (1, 5, 4)
    told = "\n".join(said["remarks"])
    for words in (
        'HTTP 500 of /v1/chat/completions ({"error": "out of memory"})',
        "the stream was cut after 1 events",
        "an error inside the stream: {'message': 'no room'}",
        "event 2 of the stream is no JSON",
        "nothing came within the time allowed",
    ):
        assert f"{server.url}, concurrency 2: 1 of 6 requests failed: " in told
        assert words in told
    assert [line for line in err if line.startswith("warning: ")] == [f"warning: {line}" for line in said["remarks"]]
    assert not any("Traceback" in line for line in err)


def test_a_server_without_usage_leaves_its_tokens_unknown(fake: Any, prompts: Path, capsys: Any) -> None:
    server = fake(fails={"text 3": "no usage"})
    said, _ = measured(capsys, "--server", server.url, "--prompts", prompts, "--concurrency", 1)
    (row,) = said["results"]
    assert (row["requests"], row["tokens"], row["tokens_per_second"]) == (6, None, None)
    assert row["first_token_seconds_p50"] > 0
    assert "sends no usage" in said["remarks"][0]


@pytest.mark.parametrize(
    ("how", "more", "words"),
    [
        ({}, ["--server", "localhost:80"], "'localhost:80' is no URL"),
        ({}, ["--server", "http://host:seven"], "'http://host:seven' is no URL"),
        ({}, ["--model", "x"], "does not serve 'x', but m, n"),
        ({"fails": {"text 0": "500"}}, [], "does not answer prompt 'p0': HTTP 500"),
        ({}, ["--raw"], "prompt 'p0' is a conversation"),
    ],
)
def test_what_cannot_work_is_said_in_one_line(
    how: dict[str, Any], more: list[str], words: str, fake: Any, prompts: Path, capsys: Any
) -> None:
    assert main(["bench", "serve", "--server", fake(**how).url, "--prompts", str(prompts), *more]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


def test_nobody_there_and_somebody_else(fake: Any, prompts: Path, capsys: Any) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    assert main(["bench", "serve", "--server", url, "--prompts", str(prompts)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"server {url}: Connection refused; start it" in line
    assert main(["bench", "serve", "--server", fake().url + "/elsewhere", "--prompts", str(prompts)]) == 2
    assert "HTTP 404 of /v1/models" in capsys.readouterr().err


def test_whoever_will_not_wait_ends_what_is_asked(fake: Any) -> None:
    server = Server(fake(delay=4.0).url)
    threading.Timer(0.5, server.drop).start()
    began = time.monotonic()
    with pytest.raises(ServerError, match="cut"):
        server.answer(*Ask("m", 4).body([{"role": "user", "content": "x"}], ()))
    assert time.monotonic() < began + 3


def test_counters_are_summed_over_engines_and_taken_apart() -> None:
    page = PAGE.format(drafts=3, drafted=6, accepted=2) + PAGE.format(drafts=1, drafted=2, accepted=2)
    assert speculation(page) == Speculation(4, 8, 4)
    assert speculation(PAGE.split("\n")[1].format(drafts=1)) is None
    assert speculation(None) is None
    spent = between(Speculation(1, 2, 1), Speculation(5, 10, 3))
    assert spent == Speculation(4, 8, 2)
    assert (spent.acceptance, spent.tokens_per_draft) == (0.25, 1.5)
    assert between(Speculation(5, 10, 3), Speculation(1, 2, 1)) is None  # started anew
    assert Speculation(0, 0, 0).acceptance is None


def test_seconds_an_output_token() -> None:
    assert Answer(1.0, 5.0, 3, 2).per_token == 2.0
    assert Answer(1.0, 1.0, 1, 1).per_token is Answer(None, 4.0, 4, 0).per_token is None


def test_a_url_with_a_path_and_a_key(fake: Any) -> None:
    assert Server("http://h:1/v1").url == Server("http://h:1/").url == "http://h:1"
    assert Server("https://h/proxy/v1/").url == "https://h/proxy"
    with pytest.raises(UsageError, match="no URL"):
        Server("ftp://h")
    server = Server(fake(fails={"x": "500"}).url)
    with pytest.raises(ServerError, match="HTTP 500"):
        server.answer(*Ask("m", 4).body([{"role": "user", "content": "x"}], ()))
