"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";

function sortBy(table, column, descending) {
  const body = table.tBodies[0];
  const key = (row) => {
    const cell = row.cells[column];
    const raw = cell.dataset.value;
    return raw === undefined ? (cell.firstChild ?? cell).textContent.trim() : raw === "" ? null : Number(raw);
  };
  const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b) : a - b);
  const rows = [...body.rows].map((row) => [key(row), row]);
  rows.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null);
    return descending ? compare(b, a) : compare(a, b);
  });
  body.append(...rows.map(([, row]) => row));
  [...table.tHead.rows[0].cells].forEach((head, i) => {
    if (i === column) head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  });
}

for (const table of document.querySelectorAll("table.board")) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = head.querySelector("button");
    if (!button) return;
    button.addEventListener("click", () => {
      const now = head.getAttribute("aria-sort");
      sortBy(table, column, now ? now === "ascending" : head.dataset.first === "descending");
    });
  });
}

function element(tag, attributes, text) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// Colours come from the page's legend, so that figures drawn here and those drawn before share them.
function armColours(section) {
  const found = {};
  for (const item of section.querySelectorAll(".legend [data-arm]")) {
    found[item.dataset.arm] = [item.dataset.colour, item.dataset.opacity];
  }
  return found;
}

function strip(rounds, shown, arms, colours) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${Math.max(shown, 1)} 10`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  for (const [position, arm, , emitted] of rounds) {
    const rect = document.createElementNS(SVG, "rect");
    const [colour, opacity] = colours[arms[arm]];
    const width = Math.min(emitted, shown - position);
    const style = { x: position, y: 0, width: Math.max(width - 0.15, 0.1), height: 10, fill: colour, "fill-opacity": opacity };
    for (const [name, value] of Object.entries(style)) rect.setAttribute(name, value);
    svg.append(rect);
  }
  return svg;
}

// The text of one policy: what a drafter proposed and the target accepted is marked in the drafter's colour.
function answer(box, line, rounds, arms, colours) {
  const words = line.texts;
  box.classList.toggle("ids", !words);
  const piece = (from, to) =>
    words ? words.slice(from, to).join("") : line.tokens.slice(from, to).join(" ");
  const gap = words ? "" : " ";
  box.replaceChildren();
  for (const [position, arm, accepted, emitted] of rounds) {
    const drafted = piece(position, position + accepted);
    if (drafted) {
      const [colour, opacity] = colours[arms[arm]];
      const span = element("span", { class: "by", title: `${arms[arm]}: ${accepted} accepted of a round of ${emitted}` }, drafted);
      span.style.borderColor = colour;
      span.style.background = `color-mix(in srgb, ${colour} ${Math.round(26 * opacity)}%, transparent)`;
      box.append(span, gap);
    }
    const own = piece(position + accepted, position + emitted);
    if (own) box.append(element("span", { class: "own", title: "the target's own token" }, own), gap);
  }
  const end = rounds.length ? rounds.at(-1)[0] + rounds.at(-1)[3] : 0;
  if (line.length > Math.min(end, line.tokens.length)) box.append(element("span", { class: "own" }, " …"));
}

for (const section of document.querySelectorAll("section[data-trace]")) {
  const root = section.querySelector(".timeline");
  if (!root) continue;
  const lines = data.timelines.filter((t) => t.trace === section.dataset.trace);
  const trace = data.traces.find((t) => t.name === section.dataset.trace);
  const order = JSON.parse(root.dataset.order);
  const colours = armColours(section);
  const pick = root.querySelector("select");
  const strips = root.querySelector(".strips");
  const box = root.querySelector(".answer");
  let chosen = order[0];
  const draw = () => {
    const line = lines[Number(pick.value)];
    strips.replaceChildren();
    for (const policy of order) {
      const rounds = line.rounds[policy];
      if (!rounds) continue;
      const button = element("button", { class: "strip", type: "button", "aria-pressed": String(policy === chosen) });
      const played = element("span", {}, `${rounds.length} rounds`);
      button.append(element("span", { title: policy }, policy), strip(rounds, line.tokens.length, trace.arms, colours), played);
      button.addEventListener("click", () => { chosen = policy; draw(); });
      strips.append(button);
    }
    answer(box, line, line.rounds[chosen], trace.arms, colours);
  };
  pick.addEventListener("change", draw);
  draw();
}
