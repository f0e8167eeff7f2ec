"use strict";
// A figure on the page: title, note, legend, a panel for every facet, its numbers; what is under the pointer.

function figure(id) {
  const found = DATA.report.figures[id];
  const data = new Table(found);
  const { kind, encoding: code } = found;
  const groups = code.scale
    ? data.distinct("scale").map((name) => [h("p.group", {}, name), data.where("scale", name)])
    : [[null, data.rows]];
  return h(
    "section.card",
    { id: `figure-${id}`, "data-figure": id },
    h("h3", {}, found.title),
    found.note ? h("p.note", {}, found.note) : null,
    key(data, kind),
    groups.map(([name, rows]) => [name, h(`div.panels.${kind}`, {}, panels(found, data, rows))]),
    numbers(found),
  );
}

function key(data, kind) {
  if (kind === "bars") {
    const shape = (i) =>
      swatch(h("rect", { x: 1, y: 1, width: 12, height: 12, rx: 3, fill: `var(--p${i})` }));
    return h(
      "ul.legend",
      {},
      data.code.parts.map((part, i) => h("li", {}, shape(i), part)),
    );
  }
  return data.code.series ? legend(data.distinct("series")) : null;
}

function panels(found, data, rows) {
  const { kind, encoding: code } = found;
  const facets = code.facet ? data.distinct("facet", rows) : [null];
  return facets.map((facet) => {
    const own = data.where("facet", facet, rows);
    const wide = kind !== "heat" && (facets.length === 1 || facet === code.first);
    const panel = h(wide ? "div.panel.wide" : "div.panel", {}, facet == null ? null : h("h4", {}, facet));
    const said = `${found.title}${facet ? `: ${facet}` : ""}. The numbers stand in the table below.`;
    return drawn(panel, (width) => {
      const svg = KINDS[kind](data, own, width);
      svg.setAttribute("aria-label", said);
      return svg;
    });
  });
}

// Draws into a panel at its width, again whenever that changes; in the next frame, so that no observer waits.
function drawn(panel, draw) {
  let last = 0;
  new ResizeObserver(([entry]) => {
    const width = Math.round(entry.contentRect.width);
    if (!width || width === last) return;
    last = width;
    requestAnimationFrame(() => {
      panel.querySelector("svg")?.remove();
      panel.append(draw(width));
    });
  }).observe(panel);
  return panel;
}

// The figure's table, made when it is opened: for those who cannot see the figure, or want to know exactly.
function numbers(found) {
  const rows = found.rows.length.toLocaleString("en");
  const details = h("details.numbers", {}, h("summary", {}, `Numbers (${rows} rows)`));
  const cell = (value) =>
    typeof value === "number"
      ? h("td.n", {}, minus(String(+value.toPrecision(5))))
      : h("td", {}, value ?? "");
  details.addEventListener("toggle", () => {
    if (details.querySelector("table")) return;
    details.append(
      table(
        found.columns,
        found.rows.map((row) => h("tr", {}, row.map(cell))),
      ),
    );
  });
  return details;
}

function tip(event, words) {
  const box = document.getElementById("tip");
  box.hidden = !words;
  if (!words) return;
  box.textContent = words;
  const below = event.clientY + 18 + box.offsetHeight <= innerHeight;
  box.style.left = `${Math.max(8, Math.min(event.clientX + 14, innerWidth - box.offsetWidth - 8))}px`;
  box.style.top = `${below ? event.clientY + 18 : event.clientY - box.offsetHeight - 10}px`;
}

document.addEventListener("pointermove", (event) => {
  const target = event.target.closest?.("[data-tip]");
  if (target) tip(event, target.dataset.tip);
  else if (!event.target.closest?.("svg")) tip(null);
});
