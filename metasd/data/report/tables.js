// Tables that sort by a click on a head, and the filter that all of a section follows.

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

function sortable(table) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    head.querySelector("button")?.addEventListener("click", () => {
      const now = head.getAttribute("aria-sort");
      sortBy(table, column, now ? now === "ascending" : head.dataset.first === "descending");
    });
  });
}

// Words that name a policy choose among policies, words that name a domain among domains, others among prompts' ids.
// A word that names nothing hides everything, and the page says so.
function filterOf(state, text) {
  const terms = line(text).toLowerCase().split(/\s+/).filter(Boolean);
  const naming = (names) => terms.filter((term) => names.some((name) => line(name).toLowerCase().includes(term)));
  const has = (found) => (name) => !found.length || found.some((term) => line(name).toLowerCase().includes(term));
  const [policies, domains, ids] = [state.order, state.domains, state.ids].map(naming);
  const lost = terms.some((term) => ![policies, domains, ids].some((found) => found.includes(term)));
  const other = ids.filter((term) => !policies.includes(term) && !domains.includes(term));
  return { lost, policy: lost ? () => false : has(policies), domain: lost ? () => false : has(domains), id: lost ? () => false : has(other) };
}

function applyFilter(state) {
  const { section, order, filter } = state;
  section.querySelector(".nothing").hidden = !filter.lost;
  for (const row of section.querySelectorAll("[data-at]")) row.hidden = !filter.policy(order[row.dataset.at]);
  for (const table of section.querySelectorAll("table.heat")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, i) => {
      const gone = i > 0 && !filter.domain(state.domains[i - 1]);
      for (const row of table.rows) row.cells[i].hidden = gone;
    });
  }
}
