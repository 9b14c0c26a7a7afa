// Two policies prompt by prompt: a point a prompt, and a table that begins where the first does worst.

function pairsOf(state) {
  const found = state.byPrompt;
  const names = Object.keys(found.rounds);
  const [one, two] = ["one", "two"].map((c) => names[Number(state.section.querySelector(`select.${c}`).value)]);
  const costs = found.seconds ?? found.rounds;
  const rows = found.ids.map((id, i) => {
    const [a, b] = [one, two].map((policy) => costs[policy][i]);
    const [first, second] = [a, b].map((cost) => found.tokens[i] / cost);
    return { i, id, domain: found.domains[i], tokens: found.tokens[i], first, second, difference: first - second, saved: b - a };
  });
  return { one, two, rows, unit: found.seconds ? "s" : "round", long: found.seconds ? "seconds" : "rounds" };
}

const listed = (state, row) => state.filter.domain(row.domain) && state.filter.id(row.id) && (!state.picked || state.picked.has(row.i));

function pairsFigure(state) {
  const { one, two, rows, unit } = pairsOf(state);
  const visible = rows.filter((row) => state.filter.domain(row.domain) && state.filter.id(row.id));
  const most = Math.max(1e-9, ...visible.flatMap((row) => [row.first, row.second])) * 1.05;
  const traces = state.domains.map((domain, d) => {
    const mine = visible.filter((row) => row.domain === domain);
    return {
      name: label(domain), x: mine.map((row) => row.second), y: mine.map((row) => row.first), customdata: mine.map((row) => row.i),
      mode: "markers", marker: { color: tint(d), size: 9, symbol: d % 8, opacity: 0.85 },
      text: mine.map((row) => `${label(row.id)}<br>${number(row.first, 2)} against ${number(row.second, 2)} tokens/${unit}`),
      hovertemplate: "%{text}<extra>%{fullData.name}</extra>",
      selectedpoints: state.picked ? mine.flatMap((row, n) => (state.picked.has(row.i) ? [n] : [])) : null,
    };
  }).filter((trace) => trace.x.length);
  const equal = { type: "line", x0: 0, y0: 0, x1: most, y1: most, line: { color: ink("--faint"), dash: "dot", width: 1 } };
  const short = (name) => label(line(name).length > 26 ? line(name).slice(0, 25) + "…" : line(name));
  const layout = {
    dragmode: "select", selections: [], hovermode: "closest", shapes: [equal], xaxis: axis(`${short(two)} (tokens/${unit})`, { range: [0, most] }),
    yaxis: axis(`${short(one)} (tokens/${unit})`, { range: [0, most] }),
  };
  return { traces, layout, height: 400 };
}

const DIFFERENCE = 1; // the column
const HEADS = ({ unit, long }) => [
  ["prompt", "ascending"], [`difference, tokens/${unit}`, "ascending"], [`${long} saved`, "ascending"],
  [`first, tokens/${unit}`, "descending"], [`second, tokens/${unit}`, "descending"], ["tokens", "descending"], ["domain", "ascending"],
];

function fillPrompts(state) {
  const pairs = pairsOf(state);
  const table = state.section.querySelector("table.prompts");
  const head = element("tr");
  for (const [name, first] of HEADS(pairs)) {
    const cell = element("th", { scope: "col", "data-first": first });
    cell.append(element("button", { type: "button" }, name));
    head.append(cell);
  }
  const body = element("tbody");
  for (const row of pairs.rows.filter((row) => listed(state, row))) {
    const shown = element("tr");
    const name = element("th", { scope: "row" });
    const open = element("button", { type: "button", class: "open", "data-id": String(row.i) }, line(row.id));
    open.addEventListener("click", () => openPrompt(state, row.i));
    name.append(open);
    const value = (raw, digits, sign) => element("td", { "data-value": String(raw) }, number(raw, digits, sign));
    const mark = row.difference < 0 ? "down" : row.difference > 0 ? "up" : "";
    const gap = value(row.difference, 2, true);
    gap.className = mark;
    const numbers = [gap, value(row.saved, 2, true), value(row.first, 2), value(row.second, 2), value(row.tokens, 0)];
    shown.append(name, ...numbers, element("td", {}, line(row.domain)));
    body.append(shown);
  }
  const heading = element("thead");
  heading.append(head);
  table.replaceChildren(heading, body);
  sortable(table);
  sortBy(table, DIFFERENCE, false);
}

function setUpPairs(state) {
  const plot = state.section.querySelector('[data-plot="pairs"]');
  if (!plot) return;
  draw(plot, () => pairsFigure(state)).then(() => {
    // Drawn anew when Plotly is done with the event: its outline goes, so that the next drag is a new selection.
    const pick = (event) => {
      state.picked = event?.points?.length ? new Set(event.points.map((point) => point.customdata)) : null;
      setTimeout(() => drawPairs(state));
    };
    plot.on("plotly_selected", (event) => { if (event?.range) pick(event); }); // without a range it tells of our drawing
    plot.on("plotly_deselect", () => pick(null));
    plot.on("plotly_click", (event) => openPrompt(state, event.points[0].customdata));
  });
  fillPrompts(state);
}

function drawPairs(state) {
  const plot = state.section.querySelector('[data-plot="pairs"]');
  if (!plot) return;
  draw(plot, () => pairsFigure(state));
  fillPrompts(state);
}

// From a prompt to its rounds, where the document keeps them.
function openPrompt(state, i) {
  const at = state.lines.findIndex((l) => l.id === state.byPrompt.ids[i]);
  const pick = state.section.querySelector("select.prompt");
  if (!pick) return;
  pick.value = String(at);
  drawRounds(state, at < 0 ? `The rounds of ${line(state.byPrompt.ids[i])} are not in this file: it keeps those of ${state.lines.length} prompts, the first of each domain first.` : "");
  state.section.querySelector('[data-part="rounds"]').scrollIntoView({ block: "start" });
}
