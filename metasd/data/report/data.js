"use strict";
// The document, and how other people's text is shown. Everything else on the page reads these.

const ZERO = 0x30; // as in metasd/report/html/pack.py

function unpack(text) {
  const rounds = [];
  let position = 0;
  for (let i = 0; i < text.length; i += 3) {
    const [arm, accepted, emitted] = [0, 1, 2].map((j) => text.charCodeAt(i + j) - ZERO);
    rounds.push([position, arm, accepted, emitted]);
    position += emitted;
  }
  return rounds;
}

const data = JSON.parse(document.getElementById("data").textContent);
for (const line of data.timelines) {
  line.rounds = Object.fromEntries(Object.entries(line.rounds).map(([policy, text]) => [policy, unpack(text)]));
}

// What does not print, or turns how its neighbours print, is shown as an escape: the rule of metasd/core/shown.py.
const escaped = (character) => {
  const code = character.codePointAt(0);
  if (code < 0x100) return "\\x" + code.toString(16).padStart(2, "0");
  return code < 0x10000 ? "\\u" + code.toString(16).padStart(4, "0") : "\\U" + code.toString(16).padStart(8, "0");
};
const line = (text) => String(text).replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, escaped);
const block = (text) => String(text).replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, (c) => ("\n\t\u200c\u200d".includes(c) ? c : escaped(c)));
// Plotly reads some tags in labels: names are no markup.
const label = (text) => line(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

const MINUS = "\u2212";
const number = (value, digits, sign = false) => {
  if (value === null || value === undefined) return "\u2013";
  const shown = value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return (sign && value >= 0 ? "+" : "") + shown.replace("-", MINUS);
};

function element(tag, attributes = {}, text) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}
