"use strict";
// The verdict: the difference against 0 and the margin, every test of it, and the secondary contrasts.

function verdict(report) {
  const found = report.primary;
  if (!found) {
    return [h("p.over", {}, "Side by side, described, without a verdict"), h("h1", {}, report.title)];
  }
  const where = `on ${found.metric} after ${found.stage}`;
  const asked = `Does ${found.treated} do better than ${found.control} ${where}?`;
  const seeds = report.seeds.length === 1 ? "one seed" : `${report.seeds.length} seeds`;
  const about = `vocabulary ${report.vocabulary}, ${CONDITIONS.length} conditions, ${seeds}`;
  const thin =
    "Thin: the 95% interval, held against 0. Thick: the 90% interval, held against the margin, within which a" +
    " difference would not matter.";
  const shown = () => [
    drawn(h("div.panel.interval"), (width) => interval(found, width)),
    h("p.note", {}, thin),
    tiles(report, found),
    tests(found),
  ];
  return [
    h("p.over", {}, `${asked} · ${about}`),
    h("h1", {}, report.words.headline),
    h(
      "section.card",
      { "aria-label": "Verdict" },
      h(`span.badge.${found.label.split(" ")[0]}`, {}, found.label),
      h("p", {}, report.words.explanation),
      found.difference == null ? null : shown(),
    ),
    report.secondary.length ? secondary(report.secondary) : null,
  ];
}

function interval(found, width) {
  const { margin, difference, treated, control } = found;
  const [low, high] = found.interval;
  const [low90, high90] = found.equivalence;
  const seeds = found.seeds.length > 1 ? Object.entries(found.by_seed) : [];
  const values = [low, high, low90, high90, -1.6 * margin, 1.6 * margin, ...seeds.map(([, value]) => value)];
  const x = scale(values, 8, width - 8, { wanted: width < 500 ? 5 : 9 });
  const [y, height, i] = [62, seeds.length ? 136 : 112, place(treated)];
  const axis = height - 22;
  const stroke = (size, opacity = 1) => ({
    stroke: color(i),
    "stroke-width": size,
    "stroke-linecap": "round",
    opacity,
  });
  const band = { x: x(-margin), width: x(margin) - x(-margin), y: 22, height: axis - 22 };
  const exact = (ends) => ends.map((end) => points(end, 2)).join(" to ");
  const said = [`difference ${points(difference, 2)} points`, `95%: ${exact([low, high])}`];
  const parts = [
    h("rect.margin", band),
    text(x(0), 14, `margin ±${short(100 * margin)}`, "middle"),
    x.ticks.map((tick) => vertical("grid", x(tick), axis - 4, axis)),
    x.ticks.map((tick) => text(x(tick), height - 6, (tick > 0 ? "+" : "") + short(100 * tick), "middle")),
    vertical("zero", x(0), 22, axis),
    h(
      "g",
      { "data-tip": [...said, `90%: ${exact([low90, high90])}`].join("\n") },
      horizontal("ci", y, x(low), x(high), stroke(3)),
      [low, high].map((end) => vertical("ci", x(end), y - 7, y + 7, stroke(3))),
      horizontal("ci", y, x(low90), x(high90), stroke(9, 0.5)),
      mark(i, x(difference), y, 8, { class: "halo" }),
      text(x(difference), y - 16, points(difference), "middle", {}, "text.strong.large"),
    ),
    seeds.map(([seed, value]) => {
      const words = `seed ${seed}: ${points(value, 2)} points`;
      return h("g", { "data-tip": words }, mark(i, x(value), y + 28, 4, { opacity: 0.6 }));
    }),
    seeds.length && width >= 500 ? text(0, y + 32, "seeds") : null,
  ];
  const [less, more] = [`← ${control} better`, `${treated} better →`];
  const room = textWidth("margin ±00") / 2 + 8;
  if (textWidth(more) < width - x(0) - room) parts.push(text(width, 14, more, "end"));
  if (textWidth(less) < x(0) - room) parts.push(text(0, 14, less));
  const label = `${treated} minus ${control}: ${points(difference)} points, 95% interval ${range([low, high])}`;
  const flat = parts.flat().filter(Boolean);
  return drawing(width, height, flat, { "aria-label": `${label}, margin ${short(100 * margin)}` });
}

function tiles(report, found) {
  const score = report.scores[found.stage][found.control].sets[found.metric];
  const tile = (name, value, more) =>
    h("div", {}, h("dt", {}, name), h("dd", {}, value, more ? h("small", {}, ` ${more}`) : null));
  return h(
    "dl.tiles",
    {},
    tile(found.treated, percent(found.accuracy[found.treated])),
    tile(found.control, percent(found.accuracy[found.control])),
    tile("floor", percent(score.floor), `always “${score.floor_answer}”`),
    tile("p", pValue(found.p)),
    tile("seeds", String(found.seeds.length), `of ${found.planned}`),
    tile("problems", found.problems.toLocaleString("en")),
  );
}

function tests(found) {
  const margin = `±${short(100 * found.margin)} points`;
  const least = `at best ${pValue(2 / 2 ** found.seeds.length)} with ${found.seeds.length} seeds`;
  const one = () => [
    ["Exact McNemar", found.interval, found.p, "the same problems; these two models, not other seeds"],
  ];
  const several = () => [
    ["Seeds and problems together: decides", found.interval, found.p, "other seeds and other problems"],
    ["Two one-sided tests", found.equivalence, found.equivalence_p, `90%; that it is within ${margin}`],
    ["Paired t over seeds", found.paired_t.interval, found.paired_t.p, "other seeds, these problems"],
    ["Exact sign-flip over seeds", null, found.sign_flip_p, `other seeds, these problems; ${least}`],
    ["Crossed bootstrap", found.crossed_bootstrap, null, "resamples seeds and problems; not for few seeds"],
  ];
  const row = ([name, ends, p, what]) =>
    h(
      "tr",
      {},
      h("td", {}, name),
      h("td.n", {}, range(ends)),
      h("td.n", {}, pValue(p)),
      h("td.wrap", {}, what),
    );
  const rows = (found.seeds.length === 1 ? one() : several()).map(row);
  const head = ["test", "interval, points", "p", "what it speaks of"];
  return h(
    "details.numbers",
    {},
    h("summary", {}, "Every test of this difference"),
    table(head, rows, [1, 2]),
    found.pairing ? h("p.note", {}, pairing(found.pairing)) : null,
  );
}

function pairing({ correlation, spread }) {
  const first =
    correlation == null
      ? "A condition has all or nothing right, so no correlation is known."
      : `The two conditions' outcomes on a problem correlate by ${short(correlation, 2)}.`;
  const beyond = `${short(100 * spread, 2)} points (standard deviation)`;
  return `${first} Beyond chance, the difference varies between seeds by ${beyond}.`;
}

function secondary(contrasts) {
  const row = (found) => {
    const difference = found.difference == null ? "–" : points(found.difference);
    const cells = [difference, range(found.interval), pValue(found.p), pValue(found.p_holm)];
    const name = h("td", {}, `${found.treated} − ${found.control}`);
    return h(
      "tr",
      {},
      name,
      cells.map((words) => h("td.n", {}, words)),
      h("td", {}, found.label),
    );
  };
  const head = ["contrast", "difference", "95% interval", "p", "p, Holm", "by itself"];
  return h(
    "section.card",
    {},
    h("h3", {}, "Secondary contrasts"),
    h("p.note", {}, "Holm's p is adjusted for their number; intervals and labels are not."),
    table(head, contrasts.map(row), [1, 2, 3, 4]),
  );
}
