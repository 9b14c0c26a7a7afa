// Files handed out: the visible table as CSV, the document as JSON, a figure as SVG.

function handOut(name, type, content) {
  const link = element("a", { download: name, href: URL.createObjectURL(new Blob([content], { type })) });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

const fileName = (...parts) => parts.map((p) => line(p).replace(/[^A-Za-z0-9.-]+/g, "-")).join("-").replace(/^-+/, "");
const quoted = (text) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
const words = (cell) => {
  const items = [...cell.querySelectorAll("li")].map((item) => item.textContent.trim());
  return items.length ? items.join("; ") : (cell.querySelector("button, .n") ?? cell.firstChild ?? cell).textContent.trim();
};

// Rows and columns that the filter hides are left out; an interval becomes two columns.
function csvOf(table) {
  const heads = [...table.tHead.rows[0].cells];
  const rows = [...table.tBodies, ...(table.tFoot ? [table.tFoot] : [])].flatMap((part) => [...part.rows]).filter((row) => !row.hidden);
  const columns = heads.map((head, i) => i).filter((i) => !heads[i].hidden);
  const wide = columns.filter((i) => rows.some((row) => row.cells[i]?.dataset.low !== undefined));
  const lines = [columns.flatMap((i) => (wide.includes(i) ? ["", " low", " high"] : [""]).map((end) => words(heads[i]) + end))];
  for (const row of rows) {
    lines.push(columns.flatMap((i) => {
      const cell = row.cells[i];
      const value = cell ? cell.dataset.value ?? words(cell) : "";
      return wide.includes(i) ? [value, cell?.dataset.low ?? "", cell?.dataset.high ?? ""] : [value];
    }));
  }
  return lines.map((fields) => fields.map(quoted).join(",") + "\r\n").join("");
}

async function svgOf(plot) {
  const { width, height } = plot.getBoundingClientRect();
  const figure = { data: plot.data, layout: { ...plot.layout, paper_bgcolor: ink("--paper") } }; // it may lie on any page
  const address = await Plotly.toImage(figure, { format: "svg", width: Math.round(width), height: Math.round(height) });
  return decodeURIComponent(address.slice(address.indexOf(",") + 1));
}

async function download(button) {
  const kind = button.dataset.save;
  if (kind === "json") return handOut(fileName("metasd", data.command) + ".json", "application/json", JSON.stringify(data));
  const part = button.closest(".part");
  const name = fileName("metasd", JSON.parse(part.closest("section").dataset.trace), part.dataset.part);
  if (kind === "csv") return handOut(name + ".csv", "text/csv;charset=utf-8", csvOf(part.querySelector("table")));
  for (const [i, plot] of [...part.querySelectorAll(".js-plotly-plot")].entries()) {
    handOut(name + (i ? `-${i + 1}` : "") + ".svg", "image/svg+xml", await svgOf(plot));
  }
}

for (const button of document.querySelectorAll("button.save")) button.addEventListener("click", () => download(button));
