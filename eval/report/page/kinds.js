"use strict";
// The four kinds of figures of eval/figures.py, each (table, rows of one facet, width in pixels) → SVG.

class Table {
  constructor(figure) {
    this.code = figure.encoding;
    const named = (row) => Object.fromEntries(figure.columns.map((column, i) => [column, row[i]]));
    this.rows = figure.rows.map(named);
  }
  get(row, role) {
    return row[this.code[role]];
  }
  distinct(role, rows = this.rows) {
    return [...new Set(rows.map((row) => this.get(row, role)))];
  }
  where(role, value, rows = this.rows) {
    return this.code[role] ? rows.filter((row) => this.get(row, role) === value) : rows;
  }
  format(x) {
    return (FORMATS[this.code.format] ?? percent)(x);
  }
  // The label of one tick, with as many decimals as the finest of them all needs.
  tick(x, all) {
    if (this.code.format === "count") return count(x);
    if (this.code.format === "points") return (x > 0 ? "+" : "") + short(100 * x);
    if (this.code.format !== "number") return `${short(100 * x)}%`;
    const digits = Math.max(...all.map((tick) => (String(tick).split(".")[1] ?? "").length));
    return minus(x.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }));
  }
}

// --- dots ----------------------------------------------------------------------------------------------------

const LINE = 17; // pixels of one condition

function dots(table, rows, width) {
  const { code } = table;
  const groups = table.distinct("group", rows);
  const series = table.distinct("series", rows);
  const narrow = width < 420; // labels stand above their lines, not beside them
  const labels = narrow ? 0 : Math.min(0.36 * width, Math.max(...groups.map(textWidth)) + 14);
  const x = dotScale(table, rows, labels + 4, width - 62, narrow);
  const each = series.length * LINE + (narrow ? 22 : 12);
  const height = groups.length * each + 26;
  const bottom = height - 22;
  const parts = [];
  if (code.margin) {
    const [left, right] = [x(-code.margin), x(code.margin)];
    const said = `margin of equivalence: ±${short(100 * code.margin)} points`;
    parts.push(h("rect.margin", { x: left, width: right - left, y: 0, height: bottom, "data-tip": said }));
  }
  for (const tick of x.ticks) {
    parts.push(vertical(tick === 0 && code.margin ? "zero" : "grid", x(tick), 0, bottom));
    parts.push(text(x(tick), height - 6, table.tick(tick, x.ticks), "middle"));
  }
  groups.forEach((group, j) => {
    const own = table.where("group", group, rows);
    const top = j * each + (narrow ? 18 : 4);
    const end = top + series.length * LINE;
    if (narrow) parts.push(text(0, top - 4, group, "start", {}, "text.strong"));
    else parts.push(text(labels - 6, (top + end) / 2 + 4, group, "end", {}, "text.strong"));
    const floor = own.map((row) => table.get(row, "floor")).find((value) => value != null);
    if (floor != null) {
      const said = `floor, the best constant answer: ${table.format(floor)}`;
      parts.push(vertical("floor", x(floor), top - 1, end + 1, { "data-tip": said }));
    }
    series.forEach((name, i) => {
      const line = table.where("series", name, own);
      parts.push(dot(table, line, x, top + (i + 0.5) * LINE, code.series ? place(name) : null, width));
    });
  });
  return drawing(width, height, parts.filter(Boolean));
}

function dotScale(table, rows, from, to, narrow) {
  const { code } = table;
  const roles = ["value", "low", "high", "floor"];
  const values = rows.flatMap((row) => roles.map((role) => table.get(row, role))).filter((x) => x != null);
  if (code.margin) values.push(-code.margin, code.margin, 0);
  const zero = code.zero || code.format === "percent";
  return scale(values, from, to, { zero, log: code.log, wanted: narrow ? 4 : 6 });
}

// One condition in one group: its interval and value, its seeds small and faint.
function dot(table, rows, x, y, i, width) {
  const whole = rows.find((row) => row.seed == null);
  if (!whole) return null;
  const seeds = rows.filter((row) => row.seed != null).map((row) => table.get(row, "value"));
  const [value, low, high] = ["value", "low", "high"].map((role) => table.get(whole, role));
  const name = [table.get(whole, "group"), table.get(whole, "series")].filter(Boolean).join(" · ");
  const said = [name, table.format(value)];
  if (low != null) said.push(`95%: ${table.format(low)} to ${table.format(high)}`);
  if (whole.problems) said.push(`${whole.problems.toLocaleString("en")} problems`);
  if (seeds.length) said.push(`${seeds.length} seeds: ${seeds.map((seed) => table.format(seed)).join(", ")}`);
  const bar = { stroke: color(i), "stroke-width": 2.4, "stroke-linecap": "round", opacity: 0.75 };
  return h(
    "g",
    { "data-tip": said.join("\n") },
    h("rect", { x: 0, y: y - 8, width, height: 16, fill: "transparent" }),
    seeds.map((seed) => mark(i, x(seed), y, 2.4, { opacity: 0.4 })),
    low == null ? null : horizontal("bar", y, x(low), x(high), bar),
    mark(i, x(value), y, 5, { class: "halo" }),
    text(width, y + 4, table.format(value), "end"),
  );
}

// --- lines ---------------------------------------------------------------------------------------------------

function lines(table, rows, width) {
  const height = Math.round(Math.min(300, Math.max(190, width * 0.55)));
  const bottom = height - 40;
  const values = rows.map((row) => table.get(row, "value"));
  const y = scale(values, bottom, 10, { wanted: 4 });
  const left = Math.max(...y.ticks.map((tick) => textWidth(table.tick(tick, y.ticks)))) + 10;
  const right = width - 8;
  const across = rows.map((row) => table.get(row, "x"));
  const x = scale(across, left, right, { wanted: width < 420 ? 3 : 5 });
  const parts = [text((left + right) / 2, height - 5, table.code.x_label, "middle")];
  for (const tick of y.ticks) {
    parts.push(horizontal("grid", y(tick), left, right));
    parts.push(text(left - 6, y(tick) + 4, table.tick(tick, y.ticks), "end"));
  }
  for (const tick of x.ticks.filter(Number.isInteger)) {
    parts.push(text(x(tick), height - 22, count(tick), "middle"));
  }
  const means = new Map(); // condition → its line over all seeds, or of its first seed
  for (const name of table.distinct("series", rows)) {
    const own = table.where("series", name, rows);
    for (const seed of new Set(own.map((row) => row.seed))) {
      const line = own.filter((row) => row.seed === seed);
      const path = line.map((row) => [table.get(row, "x"), table.get(row, "value")]);
      parts.push(curve(path, x, y, place(name), seed == null));
      if (seed == null || !means.has(name)) means.set(name, path);
    }
    const [a, b] = means.get(name).at(-1);
    parts.push(mark(place(name), x(a), y(b), 4, { class: "halo" }));
  }
  const cursor = vertical("zero", 0, 10, bottom, { visibility: "hidden", opacity: 0.5 });
  const svg = drawing(width, height, [...parts, cursor]);
  follow(svg, cursor, x, means, table, width);
  return svg;
}

function curve(path, x, y, i, whole) {
  const d = path.map(([a, b], k) => `${k ? "L" : "M"}${x(a).toFixed(1)},${y(b).toFixed(1)}`).join("");
  const style = whole ? { "stroke-width": 2.4 } : { "stroke-width": 1, opacity: 0.35 };
  return h("path", { d, fill: "none", stroke: color(i), "stroke-linejoin": "round", ...style });
}

// A line under the pointer, and what every condition is there.
function follow(svg, cursor, x, means, table, width) {
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * width;
    const nearer = (a, b) => (Math.abs(x(a[0]) - at) <= Math.abs(x(b[0]) - at) ? a : b);
    const found = [...means].map(([name, line]) => [name, line.reduce(nearer)]);
    const step = found[0][1][0];
    cursor.setAttribute("transform", `translate(${x(step)},0)`);
    cursor.setAttribute("visibility", "visible");
    const said = found.map(([name, point]) => `${name}: ${table.format(point[1])}`);
    tip(event, [`${table.code.x_label} ${count(step)}`, ...said].join("\n"));
  });
  svg.addEventListener("pointerleave", () => {
    cursor.setAttribute("visibility", "hidden");
    tip(null);
  });
}

// --- bars ----------------------------------------------------------------------------------------------------

function bars(table, rows, width) {
  const names = table.distinct("series", rows);
  const labels = Math.max(...names.map(textWidth)) + 12;
  const x = (share) => labels + share * (width - labels - 2);
  const parts = [];
  let top = 0;
  for (const group of table.distinct("group", rows)) {
    parts.push(text(0, top + 14, group, "start", {}, "text.strong"));
    top += 22;
    for (const name of names) {
      const own = table.where("series", name, table.where("group", group, rows));
      if (!own.length) continue;
      parts.push(text(labels - 8, top + 13, name, "end"));
      let from = 0;
      for (const row of own) {
        const share = table.get(row, "value");
        parts.push(segment(table, row, x(from), x(from + share), top));
        from += share;
      }
      top += 22;
    }
    top += 8;
  }
  return drawing(width, top, parts);
}

function segment(table, row, from, to, y) {
  const share = table.get(row, "value");
  const part = table.get(row, "part");
  const i = table.code.parts.indexOf(part);
  const said = [`${table.get(row, "group")} · ${table.get(row, "series")}`, `${part}: ${percent(share)}`];
  if (row.asked) said.push(`${row.asked} asked`);
  const box = { x: from, y, width: Math.max(0, to - from - 1), height: 17, rx: 2, fill: `var(--p${i})` };
  const style = { style: `font-size:10.5px;fill:var(--on-p${i})` };
  const label = text((from + to) / 2, y + 12.5, `${Math.round(100 * share)}%`, "middle", style);
  return h("g", { "data-tip": said.join("\n") }, h("rect", box), to - from > 40 ? label : null);
}

// --- heat ----------------------------------------------------------------------------------------------------

function heat(table, rows, width) {
  const sorted = (role) => table.distinct(role, rows).sort((a, b) => a - b);
  const [across, down] = [sorted("column"), sorted("row")];
  const measure = table.get(rows[0], "scale");
  const most = Math.max(...table.where("scale", measure).map((row) => table.get(row, "value"))) || 1;
  const size = Math.min(38, (width - 22) / across.length);
  const parts = [
    ...across.map((value, i) => text(22 + (i + 0.5) * size, 12, String(value), "middle")),
    ...down.map((value, j) => text(14, 26 + (j + 0.5) * size, String(value), "end")),
  ];
  for (const row of rows) {
    const x = 22 + across.indexOf(table.get(row, "column")) * size;
    const y = 22 + down.indexOf(table.get(row, "row")) * size;
    parts.push(cell(table, row, x, y, size, most));
  }
  return drawing(width, down.length * size + 22, parts);
}

function cell(table, row, x, y, size, most) {
  const value = table.get(row, "value");
  const share = Math.round((100 * value) / most);
  const said = `${table.get(row, "label")}\n${plain(value)} ${table.get(row, "scale")}`;
  const fill = `fill:color-mix(in oklab, var(--heat) ${share}%, var(--raised))`;
  const box = { x: x + 1, y: y + 1, width: size - 2, height: size - 2, rx: 4, style: fill };
  const style = { style: `font-size:9.5px;fill:var(${share > 55 ? "--surface" : "--text"})` };
  const label = text(x + size / 2, y + size / 2 + 3.5, short(value, 2), "middle", style);
  return h("g", { "data-tip": said }, h("rect", box), size > 21 ? label : null);
}

const KINDS = { dots, lines, bars, heat };
