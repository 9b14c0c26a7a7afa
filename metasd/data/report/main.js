// A section of the page: what it shows, and what moves it.

function stateOf(section) {
  const [trace, order] = [JSON.parse(section.dataset.trace), JSON.parse(section.dataset.order)];
  const known = data.traces.find((t) => t.name === trace);
  const rows = new Map(data.results.filter((r) => (r.trace ?? "all") === trace && r.domain === "all").map((r) => [r.policy, r]));
  const byPrompt = data.by_prompt.find((p) => p.trace === trace);
  const state = { section, trace, order, rows, byPrompt, arms: known?.arms ?? [], picked: null, chosen: new Set() };
  state.domains = [...new Set(data.results.filter((r) => r.trace === trace && r.domain !== "all").map((r) => r.domain))];
  if (!state.domains.length) state.domains = known?.domains ?? [];
  state.ids = byPrompt?.ids ?? [];
  state.timed = (rows.get(order[0]).currency ?? (rows.get(order[0]).seconds === null ? "rounds" : "seconds")) === "seconds";
  state.lines = data.timelines.filter((t) => t.trace === trace);
  state.room = section.clientWidth < 600 ? 18 : 40;
  state.filter = filterOf(state, "");
  return state;
}

function start(section) {
  const state = stateOf(section);
  const redraw = () => { drawFigures(state); drawPairs(state); drawRounds(state); };
  for (const box of section.querySelectorAll(".policies input")) {
    const place = Number(box.value);
    const colour = () => { box.nextElementSibling.style.background = tint(place); };
    colour();
    dark.addEventListener("change", colour);
    if (box.checked) state.chosen.add(place);
    box.addEventListener("change", () => {
      if (box.checked) state.chosen.add(place);
      else state.chosen.delete(place);
      drawFigures(state);
      drawRounds(state);
    });
  }
  section.querySelector(".filter input").addEventListener("input", (event) => {
    state.filter = filterOf(state, event.target.value);
    applyFilter(state);
    redraw();
  });
  section.querySelector("select.measure")?.addEventListener("change", () => drawFigures(state));
  for (const name of ["one", "two"]) section.querySelector(`select.${name}`)?.addEventListener("change", () => { drawPairs(state); drawRounds(state); });
  section.querySelector("select.prompt")?.addEventListener("change", () => drawRounds(state));
  for (const table of section.querySelectorAll("table.board:not(.prompts)")) sortable(table);
  drawFigures(state);
  setUpPairs(state);
  drawRounds(state);
}

for (const section of document.querySelectorAll("section[data-trace]")) start(section);
document.documentElement.dataset.ready = "yes";
