"""The report in a real browser: Debian's chromium, headless. Skipped where there is none."""

import functools
import html
import http.server
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from metasd.report.html.page import write_report

CHROMIUM = next((p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if p), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine; install Debian's package chromium"),
]

# Opens the report in a frame of a phone's width, works it, and writes what it saw where --dump-dom shows it.
PROBE = """<!doctype html><body style="margin:0"><iframe src="report.html" style="border:0;width:%dpx;height:3000px">
</iframe><script>
const frame = document.querySelector("iframe");
frame.addEventListener("load", () => {
  const page = frame.contentDocument, root = page.documentElement;
  const board = page.querySelector("table.board"), heads = [...board.tHead.rows[0].cells];
  const shown = (cell) => cell.dataset.value ?? cell.firstChild.textContent;
  const column = (i) => [...board.tBodies[0].rows].map((r) => shown(r.cells[i]));
  const names = heads.map((h) => h.textContent), at = names.indexOf("switches");
  const seen = { width: root.scrollWidth, frame: frame.contentWindow.innerWidth, before: column(0) };
  page.querySelectorAll("details").forEach((d) => { d.open = true; });
  seen.widest = root.scrollWidth;
  heads[at].querySelector("button").click();
  seen.up = column(at).map(Number); seen.state = heads[at].getAttribute("aria-sort");
  heads[at].querySelector("button").click();
  seen.down = column(at).map(Number);
  heads[0].querySelector("button").click();
  seen.names = column(0);
  const strips = [...page.querySelectorAll(".strip")];
  seen.strips = strips.length; seen.first = page.querySelector(".answer").textContent;
  strips[1].click();
  seen.second = page.querySelector(".answer").textContent;
  seen.blocks = page.querySelectorAll(".strip:first-child rect").length;
  seen.colours = new Set([...page.querySelectorAll(".strip rect")].map((r) => r.getAttribute("fill"))).size;
  const pick = page.querySelector("select"); pick.value = "1"; pick.dispatchEvent(new Event("change"));
  seen.other = page.querySelector(".answer").textContent;
  document.body.setAttribute("data-seen", JSON.stringify(seen));
});
</script>"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def site(made: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The report and its probe on a local address: frames of files may not look into each other."""
    folder = tmp_path_factory.mktemp("site")
    write_report(made, folder / "report.html")
    (folder / "phone.html").write_text(PROBE % 390)
    (folder / "wide.html").write_text(PROBE % 1280)
    (folder / "broken.html").write_text("<script>no_such_thing()</script>")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", folder
    server.shutdown()
    server.server_close()
    thread.join()


def visit(address: str, profile: Path) -> tuple[str, list[str]]:
    """The page's DOM after its scripts ran, and what it wrote to the console."""
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage"]
    flags += [f"--user-data-dir={profile}", "--enable-logging=stderr", "--v=0", "--virtual-time-budget=4000"]
    command = [str(CHROMIUM), *flags, "--window-size=1300,3100", "--dump-dom", address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def probe(site: tuple[str, Path], page: str, profile: Path) -> dict[str, Any]:
    dom, console = visit(f"{site[0]}/{page}", profile)
    assert console == []
    seen = re.search(r'data-seen="([^"]*)"', dom)
    assert seen, dom[:500]
    return json.loads(html.unescape(seen.group(1)))


@pytest.mark.parametrize(("page", "width"), [("phone.html", 390), ("wide.html", 1280)])
def test_the_report_works_at_this_width(
    site: tuple[str, Path], made: dict[str, Any], tmp_path: Path, page: str, width: int
) -> None:
    seen = probe(site, page, tmp_path)
    assert seen["frame"] == width
    assert seen["width"] <= width
    assert seen["widest"] <= width  # with every fold open
    rows = [r for r in made["results"] if r["domain"] == "all"]
    ranked = sorted(rows, key=lambda r: -r["tokens_per_round"])
    assert seen["before"] == [r["policy"] for r in ranked]
    assert seen["up"] == sorted(r["switches"] for r in rows)
    assert seen["state"] == "ascending"
    assert seen["down"] == sorted((r["switches"] for r in rows), reverse=True)
    assert seen["names"] == sorted(r["policy"] for r in rows)
    line = made["timelines"][0]
    assert seen["strips"] == len(rows)
    assert seen["blocks"] == len(line["rounds"][ranked[0]["policy"]])
    assert seen["colours"] == 4  # one a drafter, and plain decoding's
    ids = [str(t) for t in line["tokens"]]
    assert seen["first"].split() == seen["second"].split() == ids
    assert seen["other"].split() == [str(t) for t in made["timelines"][1]["tokens"]]


def test_the_probe_would_see_an_error(site: tuple[str, Path], tmp_path: Path) -> None:
    _, console = visit(f"{site[0]}/broken.html", tmp_path)
    assert len(console) == 1
    assert "no_such_thing" in console[0]
