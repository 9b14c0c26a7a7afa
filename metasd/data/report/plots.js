// What all figures share: Plotly in the page's own colours, light and dark.

const LINES = {
  light: ["#0072B2", "#D55E00", "#009E73", "#B0518A", "#A87A00", "#2C93CF", "#7A5CD6", "#6F7F22"],
  dark: ["#4FA8E8", "#F0813A", "#2BC299", "#DE93BC", "#E3B341", "#8CCDF5", "#A994F0", "#A9BC4E"],
};
const DASHES = ["solid", "dash", "dot", "dashdot"];
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const drawn = new Map(); // plot -> what draws it anew

// One colour and dash a policy, by its place in the order, so that all figures of a section agree.
const tint = (place) => LINES[dark.matches ? "dark" : "light"][place % LINES.light.length];
const look = (place) => ({ color: tint(place), dash: DASHES[Math.floor(place / LINES.light.length) % DASHES.length], width: 2 });
const faint = (colour) => colour + "2e";
const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
// A colour of the style sheet, such as var(--plain), as Plotly needs it.
const resolved = (colour) => (colour.startsWith("var(") ? ink(colour.slice(4, -1)) : colour);

const CONFIG = {
  responsive: true,
  displaylogo: false,
  displayModeBar: false,
  doubleClick: "reset",
};

function axis(title, more = {}) {
  const base = { title: { text: title, standoff: 8 }, gridcolor: ink("--line"), zerolinecolor: ink("--faint"), automargin: true };
  return { ...base, linecolor: ink("--line"), tickcolor: ink("--faint"), ...more };
}

function layoutOf(more) {
  return {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: "system-ui, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif", size: 12, color: ink("--ink") },
    margin: { l: 48, r: 12, t: 12, b: 44 },
    hoverlabel: { bgcolor: ink("--raised"), bordercolor: ink("--faint"), font: { color: ink("--ink") }, namelength: 34 },
    legend: { orientation: "h", x: 0, xanchor: "left", y: -0.22, yanchor: "top", font: { size: 12 } },
    showlegend: true,
    ...more,
  };
}

function draw(plot, make) {
  drawn.set(plot, make);
  const { traces, layout, height } = make();
  plot.style.height = `${height ?? 380}px`;
  return Plotly.react(plot, traces, layoutOf({ ...layout, height: height ?? 380 }), CONFIG);
}

dark.addEventListener("change", () => drawn.forEach((make, plot) => draw(plot, make)));
