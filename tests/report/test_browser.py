"""The report in a real browser, opened from a file as readers do: Debian's chromium, headless. Skipped without one."""

import copy
import csv
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from browser import CHROMIUM, Browser, browser

from metasd.core.costs import CostModel
from metasd.report.html.page import write_report
from metasd.sim.compare.leaderboard import document
from metasd.sim.compare.run import compare
from metasd.traces import synthetic

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine; install Debian's package chromium"),
]
POLICIES = ("metasd-ucb", "random", "fixed:arm=arm1", "metasd-ucb:beta=0.5")
EVIL = "a</script><b>\u202eb\ud800\"'&amp;"


@pytest.fixture(scope="module")
def timed() -> dict[str, Any]:
    """A comparison with a clock, and words for its tokens."""
    trace = synthetic("two-language", prompts=12, length=60, arms=3, draft_length=4, seed=2)
    flat = np.full(3, 0.01)
    clock = CostModel(
        tuple(d.name for d in trace.drafters), np.array([1.0, 9.0]), np.array([0.1, 0.12]), flat, flat, flat, flat
    )
    made = document(compare([trace], POLICIES, 2, workers=1, costs=clock))
    for line in made["timelines"]:
        line["texts"] = [f" w{t}" for t in line["tokens"]]
    made["timelines"][0]["texts"][0] = EVIL
    return made


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def opened(tab: Browser, timed: dict[str, Any], tmp_path: Path) -> Browser:
    """The page at a desk's width."""
    return visit(tab, timed, tmp_path)


def visit(tab: Browser, made: dict[str, Any], folder: Path, width: int = 1280, **how: Any) -> Browser:
    write_report(made, folder / "report.html")
    tab.console.clear()
    tab.requests.clear()
    tab.open((folder / "report.html").as_uri(), width=width, **how)
    tab.wait("document.documentElement.dataset.ready === 'yes'")
    return tab


def totals(made: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows over all prompts, best first."""
    return sorted((r for r in made["results"] if r["domain"] == "all"), key=lambda r: -r["tokens_per_second"])


def texts(tab: Browser, selector: str) -> list[str]:
    visible = f"[...document.querySelectorAll({json.dumps(selector)})].filter((e) => e.checkVisibility())"
    return list(tab.do(f"{visible}.map((e) => e.firstChild.textContent)"))


def downloaded(tab: Browser, folder: Path, selector: str) -> Path:
    """The file that a click on ``selector`` hands out."""
    folder.mkdir()
    tab.downloads_to(folder)
    tab.click(selector)
    end = time.monotonic() + 30
    while not (done := [f for f in folder.iterdir() if f.suffix in (".csv", ".json", ".svg")]):
        assert time.monotonic() < end, f"{selector} handed out nothing"
        time.sleep(0.05)
    return done[0]


def part(name: str) -> str:
    return f'[data-part="{name}"]'


@pytest.mark.parametrize(("width", "dark"), [(390, True), (1280, False)])
def test_it_opens_without_network_or_errors(
    tab: Browser, timed: dict[str, Any], tmp_path: Path, width: int, dark: bool
) -> None:
    visit(tab, timed, tmp_path, width, dark=dark)
    assert tab.do("innerWidth") == width
    assert tab.do("document.documentElement.scrollWidth") <= width
    for figure in ("regret", "learning", "seconds", "accepted", "pairs"):
        box = tab.do(f"document.querySelector('[data-plot={figure}] .main-svg').getBoundingClientRect().toJSON()")
        assert 0 < box["left"] < box["right"] <= width
        assert tab.do(f"document.querySelectorAll('[data-plot={figure}] .trace').length") > 0
    assert tab.console == []
    assert {r.partition(":")[0] for r in tab.requests} <= {"file", "data", "blob"}
    assert sum(r.startswith("file:") for r in tab.requests) == 1  # the page itself, and nothing beside it


def test_an_error_would_be_seen(tab: Browser, tmp_path: Path) -> None:
    (tmp_path / "broken.html").write_text("<script>no_such_thing()</script><img src='gone.png'>")
    tab.console.clear()
    tab.open((tmp_path / "broken.html").as_uri(), width=390)
    assert any("no_such_thing" in said for said in tab.console)
    assert any(r.endswith("gone.png") for r in tab.requests)


def test_the_table_begins_with_the_fastest_and_sorts(opened: Browser, timed: dict[str, Any]) -> None:
    names = [r["policy"] for r in totals(timed)]
    rows = f"{part('board')} tbody th"
    assert texts(opened, rows) == names
    heads = texts(opened, f"{part('board')} thead th")
    assert heads[:3] == ["policy", "tokens per second", "times plain"]
    opened.click(f"{part('board')} thead th:nth-child(2) button")
    assert texts(opened, rows) == names[::-1]
    opened.click(f"{part('board')} thead th:nth-child(1) button")
    assert texts(opened, rows) == sorted(names)


def test_the_filter_takes_policies_domains_and_prompts(opened: Browser, timed: dict[str, Any]) -> None:
    names, domains = [r["policy"] for r in totals(timed)], timed["traces"][0]["domains"]
    board, heat, prompts = (
        f"{part('board')} tbody th",
        f"{part('heat-tokens_per_second')} thead th",
        "table.prompts tbody th",
    )
    assert (texts(opened, heat), len(texts(opened, prompts))) == (["policy", *domains], 12)

    opened.type(".filter input", f"UCB {domains[1]}")
    assert texts(opened, board) == [n for n in names if "ucb" in n]
    assert texts(opened, heat) == ["policy", domains[1]]
    assert len(texts(opened, prompts)) == timed["by_prompt"][0]["domains"].count(domains[1])
    opened.type(".filter input", timed["by_prompt"][0]["ids"][3])
    assert texts(opened, board) == names
    assert len(texts(opened, prompts)) == 1 or all(timed["by_prompt"][0]["ids"][3] in t for t in texts(opened, prompts))
    opened.type(".filter input", "nobody")
    assert texts(opened, board) == []
    assert texts(opened, ".nothing") != []
    opened.type(".filter input", "")
    assert texts(opened, board) == names
    assert opened.console == []


def test_policies_are_overlaid_and_a_value_appears(opened: Browser, timed: dict[str, Any]) -> None:
    names = [r["policy"] for r in totals(timed)]
    shown = "[...new Set(document.querySelector('[data-plot=regret]').data.map((t) => t.name))]"
    assert opened.do(shown) == names[:3]
    opened.click('.policies input[value="3"]')
    opened.do("document.querySelector('.policies input[value=\"0\"]').focus()")
    opened.key(" ")
    assert opened.do(shown) == names[1:]

    opened.mouse("mouseMoved", opened.place("[data-plot=regret] .nsewdrag", 0.98, 0.5))
    said = opened.wait("document.querySelector('[data-plot=regret] .hoverlayer').textContent")
    position = timed["curves"][0]["position"]
    at = position.index(min(position, key=lambda x: abs(x - 0.98 * position[-1])))
    for name in names[1:]:
        curve = next(c for c in timed["curves"] if c["policy"] == name)["regrets"]["pseudo_regret_seconds"]
        near = {f"{abs(curve['mean'][i]):.3f} s" for i in (at, at - 1)}
        assert any(value in said for value in near), (said, near)


def test_a_figure_zooms_and_another_regret_can_be_chosen(opened: Browser) -> None:
    span = "document.querySelector('[data-plot=regret]').layout.xaxis.range"
    low, high = opened.do(span)
    opened.drag("[data-plot=regret] .nsewdrag", (0.2, 0.2), (0.6, 0.8))
    opened.wait(f"{span}[1] < {high}")
    assert opened.do(span)[0] > low
    title = "document.querySelector('[data-plot=regret]').layout.yaxis.title.text"
    assert opened.do(title) == "regret a prompt (s)"
    opened.do(
        "{ const s = document.querySelector('select.measure'); s.value = 'hindsight_regret_rounds';"
        " s.dispatchEvent(new Event('change')); }"
    )
    assert opened.do(title) == "regret a prompt (rounds)"
    assert opened.console == []


def test_prompts_begin_with_the_worst_and_lead_to_their_words(opened: Browser, timed: dict[str, Any]) -> None:
    found, names = timed["by_prompt"][0], [r["policy"] for r in totals(timed)]
    first, second = (found["seconds"][n] for n in names[:2])
    gaps = {
        name: tokens / a - tokens / b
        for name, tokens, a, b in zip(found["ids"], found["tokens"], first, second, strict=True)
    }
    rows = "table.prompts tbody th button"
    assert texts(opened, rows) == sorted(gaps, key=lambda name: gaps[name])
    worst = texts(opened, rows)[0]
    opened.click("table.prompts tbody tr:first-child th button")
    assert opened.do("document.querySelector('select.prompt').selectedOptions[0].textContent").endswith(worst)
    line = next(t for t in timed["timelines"] if t["id"] == worst)
    assert opened.do("document.querySelector('.answer').textContent") == "".join(line["texts"]).replace(EVIL, SHOWN)
    strips = "document.querySelectorAll('.strip')"
    assert opened.do(f"{strips}[0].querySelectorAll('rect').length") == len(line["rounds"][names[0]])
    assert opened.do(f"{strips}.length") == 3
    opened.click(".strip:nth-child(2)")
    assert opened.do("document.querySelector('.strip[aria-pressed=true]').firstChild.textContent") == names[1]


SHOWN = "a</script><b>\\u202eb\\ud800\"'&amp;"


def test_points_selected_are_the_prompts_listed(opened: Browser, timed: dict[str, Any]) -> None:
    rows = "document.querySelectorAll('table.prompts tbody tr').length"
    assert opened.do(rows) == 12
    found, names = timed["by_prompt"][0], [r["policy"] for r in totals(timed)]
    rates = sorted(n / s for n, s in zip(found["tokens"], found["seconds"][names[0]], strict=True))
    low, high = opened.do("document.querySelector('[data-plot=pairs]').layout.yaxis.range")
    middle = 1 - ((rates[5] + rates[6]) / 2 - low) / (high - low)  # six points are above it
    for _ in range(2):  # the second drag begins where the first one did, on no rest of it
        opened.drag("[data-plot=pairs] .nsewdrag", (0.01, 0.01), (0.99, middle))
        opened.wait(f"{rows} === 6")
    for _ in range(5):  # a busy browser may take a drag for the end of the one before
        opened.drag("[data-plot=pairs] .nsewdrag", (0.01, 0.01), (0.03, 0.03))  # around no point
        time.sleep(0.3)
        if opened.do(rows) == 12:
            break
    opened.wait(f"{rows} === 12")
    assert opened.console == []


def test_the_document_is_handed_out_whole(opened: Browser, timed: dict[str, Any], tmp_path: Path) -> None:
    file = downloaded(opened, tmp_path / "json", "button[data-save=json]")
    assert json.loads(file.read_text(encoding="utf-8", errors="surrogatepass")) == json.loads(json.dumps(timed))


def test_the_visible_table_is_handed_out(opened: Browser, timed: dict[str, Any], tmp_path: Path) -> None:
    opened.type(".filter input", "ucb")
    file = downloaded(opened, tmp_path / "csv", f"{part('board')} button.save")
    lines = list(csv.DictReader(io.StringIO(file.read_text(encoding="utf-8"))))
    rows = [r for r in totals(timed) if "ucb" in r["policy"]]
    for line, row in zip(lines, rows, strict=False):
        assert line["policy"] == row["policy"]
        assert float(line["tokens per second"]) == row["tokens_per_second"]
        ends = row["intervals"]["tokens_per_second"]
        assert [float(line["tokens per second low"]), float(line["tokens per second high"])] == ends
    assert all(r["policy"] not in [line["policy"] for line in lines] for r in totals(timed) if "ucb" not in r["policy"])


def test_every_figure_is_handed_out(opened: Browser, tmp_path: Path) -> None:
    for figure in ("regret", "learning", "seconds", "accepted", "arms", "pairs"):
        file = downloaded(opened, tmp_path / figure, f"{part(figure)} button[data-save=svg]")
        root = ElementTree.parse(file).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert len(list(root.iter("{http://www.w3.org/2000/svg}path"))) > 3, figure
    assert opened.console == []


def test_names_of_any_content_are_shown_and_not_run(tab: Browser, timed: dict[str, Any], tmp_path: Path) -> None:
    text = json.dumps(timed).replace("metasd-ucb:beta=0.5", json.dumps(EVIL)[1:-1])
    made = json.loads(text.replace('"arm1@4"', json.dumps(EVIL)))
    visit(tab, copy.deepcopy(made), tmp_path)
    assert SHOWN in texts(tab, f"{part('board')} tbody th")
    at = [r["policy"] for r in totals(made)].index(EVIL)
    tab.do(
        f"document.querySelector('.policies input[value=\"{at}\"]').checked || "
        f"document.querySelector('.policies input[value=\"{at}\"]').click()"
    )
    legend = tab.do("[...document.querySelectorAll('[data-plot=regret] .legendtext')].map((e) => e.textContent)")
    assert SHOWN in legend
    assert tab.do("document.querySelectorAll('b').length") == tab.do(
        "document.querySelectorAll('.headline b, table.settings b').length"
    )
    assert tab.console == []


def test_pages_without_a_clock_of_several_traces_and_of_one_run(tab: Browser, tmp_path: Path) -> None:
    traces = [synthetic("iid", prompts=3, length=20, arms=2, draft_length=3, seed=seed) for seed in (1, 2)]
    made = document(compare(traces, ["random", "ucb1"], 1, workers=1))
    visit(tab, made, tmp_path, 390)
    assert [json.loads(t) for t in tab.do("[...document.querySelectorAll('section')].map((s) => s.dataset.trace)")] == [
        "all",
        "synthetic iid",
        "synthetic iid #2",
    ]
    assert tab.do("document.querySelectorAll('[data-plot=regret] .trace').length") > 0
    assert tab.do("document.querySelectorAll('[data-plot=seconds]').length") == 0
    assert tab.do("document.querySelector('[data-plot=learning]').layout.yaxis.title.text") == "regret so far (rounds)"
    assert tab.do("document.documentElement.scrollWidth") <= 390
    assert tab.console == []

    row = next(r for r in made["results"] if r["domain"] == "all")
    kept = ("policy", "reset", "domain", "prompts", "seconds", "switches", "tokens_per_round", "tokens_per_second")
    run = {name: row[name] for name in kept} | {"regret_rounds": None, "oracle_rounds": None}
    run = {"schema": 1, "command": "run", "versions": {}, "config": {"target": "t"}, "results": [run]}
    visit(tab, run, tmp_path)
    assert texts(tab, f"{part('board')} tbody th") == ["random"]
    assert tab.console == []
