// One prompt round by round: a strip a policy, and the text of the policy chosen.

const SVG = "http://www.w3.org/2000/svg";

function strip(rounds, shown, colours) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${Math.max(shown, 1)} 10`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  for (const [position, arm, , emitted] of rounds) {
    const rect = document.createElementNS(SVG, "rect");
    const [colour, opacity] = colours[arm];
    const width = Math.min(emitted, shown - position);
    const style = { x: position, y: 0, width: Math.max(width - 0.15, 0.1), height: 10, fill: colour, "fill-opacity": opacity };
    for (const [name, value] of Object.entries(style)) rect.setAttribute(name, value);
    svg.append(rect);
  }
  return svg;
}

// What a drafter proposed and the target accepted is marked in the drafter's colour.
function answer(box, told, rounds, arms, colours) {
  const texts = told.texts;
  box.classList.toggle("ids", !texts);
  const piece = (from, to) => (texts ? block(texts.slice(from, to).join("")) : told.tokens.slice(from, to).join(" "));
  const gap = texts ? "" : " ";
  box.replaceChildren();
  for (const [position, arm, accepted, emitted] of rounds) {
    const drafted = piece(position, position + accepted);
    if (drafted) {
      const [colour, opacity] = colours[arm];
      const span = element("span", { class: "by", title: `${line(arms[arm])}: ${accepted} accepted of a round of ${emitted}` }, drafted);
      span.style.borderColor = colour;
      span.style.background = `color-mix(in srgb, ${colour} ${Math.round(26 * opacity)}%, transparent)`;
      box.append(span, gap);
    }
    const own = piece(position + accepted, position + emitted);
    if (own) box.append(element("span", { class: "own", title: "the target's own token" }, own), gap);
  }
  const end = rounds.length ? rounds.at(-1)[0] + rounds.at(-1)[3] : 0;
  if (told.length > Math.min(end, told.tokens.length)) box.append(element("span", { class: "own" }, " …"));
}

function stripPolicies(state) {
  const places = new Set(chosen(state));
  for (const name of ["one", "two"]) {
    const pick = state.section.querySelector(`select.${name}`);
    const at = pick ? state.order.indexOf(Object.keys(state.byPrompt.rounds)[Number(pick.value)]) : -1;
    if (at >= 0) places.add(at);
  }
  return [...places].sort((a, b) => a - b).map((at) => state.order[at]);
}

function drawRounds(state, missing = "") {
  const root = state.section.querySelector(".timeline");
  if (!root) return;
  const [strips, box] = [root.querySelector(".strips"), root.querySelector(".answer")];
  const told = state.lines[Number(root.querySelector("select.prompt").value)];
  strips.replaceChildren();
  box.replaceChildren();
  if (missing || !told) {
    strips.append(element("p", { class: "what" }, missing));
    return;
  }
  const policies = stripPolicies(state).filter((policy) => told.rounds[policy]);
  if (!policies.includes(state.spoken)) state.spoken = policies[0];
  const colours = armColours(state.section);
  for (const policy of policies) {
    const rounds = told.rounds[policy];
    const button = element("button", { class: "strip", type: "button", "aria-pressed": String(policy === state.spoken) });
    button.append(element("span", { title: line(policy) }, line(policy)), strip(rounds, told.tokens.length, colours), element("span", {}, `${rounds.length} rounds`));
    button.addEventListener("click", () => { state.spoken = policy; drawRounds(state); });
    strips.append(button);
  }
  if (state.spoken !== undefined) answer(box, told, told.rounds[state.spoken], state.arms, colours);
}
