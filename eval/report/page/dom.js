"use strict";
// What all of the page is made of: elements, marks of conditions, numbers as text, scales.

const DATA = JSON.parse(document.getElementById("data").textContent);
const CONDITIONS = Object.keys(DATA.report.conditions);

// --- elements ------------------------------------------------------------------------------------------------

const SVG = ["svg", "g", "path", "line", "rect", "text"];

// h("p.note", {id: "x"}, "words", child) is an element. All words become text nodes: nothing is ever markup.
function h(selector, attributes, ...children) {
  const [tag, ...classes] = selector.split(".");
  const space = SVG.includes(tag) ? "http://www.w3.org/2000/svg" : "http://www.w3.org/1999/xhtml";
  const element = document.createElementNS(space, tag);
  if (classes.length) element.setAttribute("class", classes.join(" "));
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value != null && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child != null));
  return element;
}

const text = (x, y, words, anchor = "start", more = {}, kind = "text") =>
  h(kind, { x, y, "text-anchor": anchor, ...more }, words);
const vertical = (kind, x, y1, y2, more) => h(`line.${kind}`, { x1: x, x2: x, y1, y2, ...more });
const horizontal = (kind, y, x1, x2, more) => h(`line.${kind}`, { x1, x2, y1: y, y2: y, ...more });
const drawing = (width, height, parts, more) =>
  h("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", ...more }, parts);
const swatch = (shape) =>
  h("svg", { width: 14, height: 14, style: "width:14px", "aria-hidden": true }, shape);

function table(head, rows, numeric = []) {
  const cells = head.map((words, i) => h(numeric.includes(i) ? "th.n" : "th", { scope: "col" }, words));
  const body = h("tbody", {}, rows);
  return h("div.scroll", { tabindex: 0 }, h("table", {}, h("thead", {}, h("tr", {}, cells)), body));
}

const canvas = document.createElement("canvas").getContext("2d");
function textWidth(words) {
  canvas.font = "12px system-ui, sans-serif";
  return canvas.measureText(words).width;
}

// --- conditions ----------------------------------------------------------------------------------------------

// A condition has a colour and a mark, so that colour is never alone. Null is of no condition.
const color = (i) => (i == null ? "var(--text)" : `var(--c${i % 8})`);
const place = (condition) => Math.max(0, CONDITIONS.indexOf(condition));

const MARKS = [
  (r) => `M${-r},0a${r},${r} 0 1,0 ${2 * r},0a${r},${r} 0 1,0 ${-2 * r},0`, // circle
  (r) => `M${-0.9 * r},${-0.9 * r}h${1.8 * r}v${1.8 * r}h${-1.8 * r}z`, // square
  (r) => `M0,${-1.25 * r}L${1.25 * r},0L0,${1.25 * r}L${-1.25 * r},0z`, // diamond
  (r) => `M0,${-1.2 * r}L${1.1 * r},${0.8 * r}H${-1.1 * r}z`, // up
  (r) => `M0,${1.2 * r}L${1.1 * r},${-0.8 * r}H${-1.1 * r}z`, // down
  (r) =>
    `M${-r},${-r / 3}H${-r / 3}V${-r}H${r / 3}V${-r / 3}H${r}V${r / 3}H${r / 3}V${r}H${-r / 3}V${r / 3}H${-r}z`,
  (r) => `M${-r},0L${-r / 2},${-r}H${r / 2}L${r},0L${r / 2},${r}H${-r / 2}z`, // hexagon
];

const mark = (i, x, y, radius, more) =>
  h("path", {
    d: MARKS[(i ?? 0) % MARKS.length](radius),
    transform: `translate(${x},${y})`,
    fill: color(i),
    ...more,
  });

function legend(names) {
  const shape = (name) => swatch(mark(place(name), 7, 7, 5));
  return h(
    "ul.legend",
    {},
    names.map((name) => h("li", {}, shape(name), name)),
  );
}

// --- numbers -------------------------------------------------------------------------------------------------

const minus = (words) => words.replace("-", "−");
const short = (x, digits = 3) => minus(String(+x.toPrecision(digits)));

// As Python rounds, an exact tie to the even digit, so that the page and the printed table say the same.
function fixed(x, digits) {
  const exact = x.toFixed(20);
  const cut = exact.slice(0, digits - 20);
  const tie = /^50*$/.test(exact.slice(digits - 20));
  return tie && "02468".includes(cut.at(-1)) ? cut : x.toFixed(digits);
}

function plain(x) {
  const size = Math.abs(x);
  if (size >= 1000) return minus(Math.round(x).toLocaleString("en"));
  return minus(Number.isInteger(x) ? String(x) : x.toPrecision(size >= 100 ? 4 : 3));
}

const UNITS = { E: 1e18, P: 1e15, T: 1e12, G: 1e9, M: 1e6, k: 1e3 };
function count(x) {
  const unit = Object.keys(UNITS).find((name) => Math.abs(x) >= UNITS[name]);
  return unit ? `${short(x / UNITS[unit])} ${unit}` : short(x);
}

const points = (x, digits = 1) => (x > 0 ? "+" : "") + minus(fixed(100 * x, digits));
const range = (ends) => (ends ? `${points(ends[0])} to ${points(ends[1])}` : "–");
const pValue = (p) => (p == null ? "–" : p < 0.001 ? "< .001" : p.toFixed(3).replace(/^0/, ""));
const percent = (x) => `${fixed(100 * x, 1)}%`;
const FORMATS = { percent, points, number: plain, count };

// --- scales --------------------------------------------------------------------------------------------------

// From values to pixels, with the values to write beside the axis.
function scale(values, from, to, { zero = false, log = false, wanted = 5 } = {}) {
  if (log) return logarithmic(values, from, to, wanted);
  let low = Math.min(...values);
  let high = Math.max(...values);
  if (zero) [low, high] = [Math.min(0, low), Math.max(0, high)];
  const room = (high - low || Math.abs(high) || 1) * 0.04;
  if (!(zero && low === 0)) low -= room;
  high += room;
  const at = (x) => from + ((x - low) / (high - low)) * (to - from);
  return Object.assign(at, { ticks: ticks(low, high, wanted) });
}

function ticks(low, high, wanted) {
  const rough = (high - low) / wanted || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 2.5, 5, 10].find((times) => times * power >= rough);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) {
    found.push(+(i * step).toPrecision(12));
  }
  return found;
}

function logarithmic(values, from, to, wanted) {
  const low = Math.floor(Math.log10(Math.min(...values)));
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...values))));
  const step = Math.ceil((high - low) / wanted);
  const at = (x) => from + ((Math.log10(x) - low) / (high - low)) * (to - from);
  const powers = Array.from({ length: high - low + 1 }, (_, i) => i).filter((i) => i % step === 0);
  return Object.assign(at, { ticks: powers.map((i) => 10 ** (low + i)) });
}
