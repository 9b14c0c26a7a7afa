// The figures over the policies chosen: regret, learning, seconds, accepted lengths, arms along the text.

const ofTrace = (items, state) => new Map(items.filter((item) => item.trace === state.trace).map((item) => [item.policy, item]));
const chosen = (state) => [...state.chosen].sort((a, b) => a - b).filter((at) => state.filter.policy(state.order[at]));
const room = (state, n) => 380 + 20 * Math.ceil(n / (state.section.clientWidth < 600 ? 1 : 3));

// A line, and the band around it where one is known.
function withBand(name, place, x, { mean, low, high }, digits, unit) {
  const group = { name: label(name), legendgroup: String(place) };
  const text = mean.map((value, i) => `${number(value, digits, true)} ${unit}` + (low ? ` (${number(low[i], digits, true)} to ${number(high[i], digits, true)})` : ""));
  const curve = { ...group, x, y: mean, text, mode: "lines", line: look(place), hovertemplate: "%{fullData.name}: %{text}<extra></extra>" };
  if (!low) return [curve];
  const band = { x: [...x, ...[...x].reverse()], y: [...low, ...[...high].reverse()], fill: "toself", fillcolor: faint(tint(place)) };
  return [{ ...group, ...band, mode: "lines", line: { width: 0, color: tint(place) }, hoverinfo: "skip", showlegend: false }, curve];
}

function regretFigure(state) {
  const measure = state.section.querySelector("select.measure").value;
  const [unit, digits] = measure.endsWith("seconds") ? ["s", 3] : ["rounds", 2];
  const curves = ofTrace(data.curves, state);
  const shown = chosen(state).filter((at) => curves.has(state.order[at]));
  const traces = shown.flatMap((at) => {
    const curve = curves.get(state.order[at]);
    return withBand(state.order[at], at, curve.position, curve.regrets[measure], digits, unit);
  });
  const layout = { hovermode: "x unified", xaxis: axis("position in the text (tokens)", { rangemode: "tozero" }), yaxis: axis(`regret a prompt (${unit})`) };
  return { traces, layout, height: room(state, shown.length) };
}

function learningFigure(state) {
  const unit = state.timed ? "s" : "rounds";
  const curves = ofTrace(data.learning, state);
  const shown = chosen(state).filter((at) => curves.has(state.order[at]));
  const traces = shown.flatMap((at) => {
    const curve = curves.get(state.order[at]);
    const alone = curve.low.every((value, i) => value === curve.high[i]);
    const found = withBand(state.order[at], at, curve.prompts, alone ? { mean: curve.mean, low: null } : curve, 2, unit);
    const line = found.at(-1);
    line.text = line.text.map((words, i) => `${words}, ${number(curve.rate[i], 2)} tokens/${state.timed ? "s" : "round"} so far`);
    return found;
  });
  const layout = { hovermode: "x unified", xaxis: axis("prompts met", { rangemode: "tozero" }), yaxis: axis(`regret so far (${unit})`) };
  return { traces, layout, height: room(state, shown.length) };
}

const PARTS = [["verify_seconds", "target's passes", "#3B8FC6"], ["draft_seconds", "drafting", "#E69F00"], ["catch_up_seconds", "catching up", "#CC79A7"]];

// Every policy that the filter lets through, best on top.
function secondsFigure(state) {
  const rows = state.order.filter(state.filter.policy).map((policy) => state.rows.get(policy)).reverse();
  const names = rows.map((row) => label(row.policy));
  const traces = PARTS.map(([key, name, color]) => ({
    type: "bar", orientation: "h", name, marker: { color },
    x: rows.map((row) => row[key]), y: names.map((_, i) => i), customdata: names,
    text: rows.map((row) => `${number(row[key], 2)} s of ${number(row.seconds, 2)}`), textposition: "none",
    hovertemplate: "%{customdata}<br>%{fullData.name}: %{text}<extra></extra>",
  }));
  const short = (name) => (name.length > state.room ? name.slice(0, state.room - 1) + "…" : name);
  const labels = rows.map((row) => label(short(line(row.policy))));
  const ticks = { tickmode: "array", tickvals: names.map((_, i) => i), ticktext: labels, showgrid: false, zeroline: false };
  const layout = { barmode: "stack", bargap: 0.25, hovermode: "closest", xaxis: axis("seconds, all prompts", { side: "top" }), yaxis: axis("", ticks), legend: { orientation: "h", x: 0, y: 0, yanchor: "top" } };
  return { traces, layout: { ...layout, margin: { l: 10, r: 12, t: 48, b: 40 } }, height: 130 + 22 * rows.length };
}

function acceptedFigure(state) {
  const found = ofTrace(data.histograms, state);
  const shown = chosen(state).filter((at) => found.has(state.order[at]));
  const traces = shown.map((at) => {
    const { undrafted, accepted } = found.get(state.order[at]);
    const counts = [undrafted, ...accepted];
    const total = counts.reduce((a, b) => a + b, 0) || 1;
    return {
      type: "bar", name: label(state.order[at]), marker: { color: tint(at) },
      x: counts.map((_, i) => (i ? String(i - 1) : "none")), y: counts.map((n) => n / total),
      text: counts.map((n) => `${number((100 * n) / total, 1)} % (${number(n, 1)} rounds)`), textposition: "none",
      hovertemplate: "%{fullData.name}: %{text}<extra></extra>",
    };
  });
  const layout = { barmode: "group", hovermode: "x unified", xaxis: axis("draft tokens kept (none: none drafted)", { type: "category", tickangle: 0 }), yaxis: axis("share of rounds", { tickformat: ".0%" }) };
  return { traces, layout, height: room(state, shown.length) };
}

// Colours come from the page's legend, so that all figures of a trace share them.
function armColours(section) {
  return [...section.querySelector("ul.legend").children].map((item) => [item.dataset.colour, Number(item.dataset.opacity)]);
}

function armsFigure(state, share) {
  const colours = armColours(state.section);
  const traces = state.arms.map((arm, i) => [arm, share.arms[arm], i]).map(([arm, values, i]) => ({
    name: label(arm), x: share.position, y: values, mode: "lines", stackgroup: "arms", line: { width: 0.5, color: resolved(colours[i][0]) },
    fillcolor: mixed(resolved(colours[i][0]), colours[i][1]), text: values.map((v) => number(v === null ? null : 100 * v, 1)),
    hovertemplate: "%{fullData.name}: %{text} %<extra></extra>",
  })).filter((trace) => trace.y.some((value) => value > 0));
  const layout = { showlegend: false, hovermode: "x unified", xaxis: axis("position (tokens)"), yaxis: axis("", { tickformat: ".0%", range: [0, 1] }), margin: { l: 40, r: 8, t: 6, b: 40 } };
  return { traces, layout, height: 220 };
}

// An opaque colour: ``colour`` (#rrggbb) laid over the paper, so that areas above each other do not shine through.
function mixed(colour, opacity) {
  const [over, under] = [colour, ink("--raised")].map((c) => [1, 3, 5].map((i) => parseInt(c.slice(i, i + 2), 16)));
  return `rgb(${over.map((v, i) => Math.round(opacity * v + (1 - opacity) * under[i])).join(",")})`;
}

function drawArms(state) {
  const box = state.section.querySelector('[data-plot="arms"]');
  if (!box) return;
  const shares = ofTrace(data.shares, state);
  for (const plot of box.querySelectorAll(".plot")) { drawn.delete(plot); Plotly.purge(plot); }
  box.replaceChildren();
  for (const at of chosen(state)) {
    const share = shares.get(state.order[at]);
    if (!share) continue;
    const figure = element("figure", { class: "panel" });
    const plot = element("div", { class: "plot", role: "img", "aria-label": `Arms of ${line(share.policy)}` });
    figure.append(element("figcaption", {}, line(share.policy)), plot);
    box.append(figure);
    draw(plot, () => armsFigure(state, share));
  }
}

const FIGURES = { regret: regretFigure, learning: learningFigure, seconds: secondsFigure, accepted: acceptedFigure };

function drawFigures(state) {
  for (const [name, make] of Object.entries(FIGURES)) {
    const plot = state.section.querySelector(`[data-plot="${name}"]`);
    if (plot) draw(plot, () => make(state));
  }
  drawArms(state);
}
