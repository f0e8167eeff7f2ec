"use strict";
// The page from top to bottom: the verdict, the warnings, a section for every kind of figure, answers, runs.

function warnings(said) {
  if (!said.length) return null;
  const [first, rest] = [said.slice(0, 6), said.slice(6)];
  const list = (lines) =>
    h(
      "ul",
      {},
      lines.map((line) => h("li", {}, line)),
    );
  const name = "Before you believe this";
  const more = () => h("details.numbers", {}, h("summary", {}, `${rest.length} more`), list(rest));
  return h(
    "aside.warnings",
    { "aria-label": name },
    h("h3", {}, name),
    list(first),
    rest.length ? more() : null,
  );
}

// --- runs ----------------------------------------------------------------------------------------------------

const STATES = { done: "✓", failed: "✕", running: "…", stopped: "‖", unverified: "?", waiting: "·" };

function runs(report) {
  const names = [...new Set(report.runs.flatMap((run) => Object.keys(run.stages)))];
  const counts = {};
  for (const { state } of report.runs.flatMap((run) => Object.values(run.stages))) {
    counts[state] = (counts[state] ?? 0) + 1;
  }
  const said = Object.entries(counts).map(([state, n]) => `${STATES[state]} ${state} ${n}`);
  const rows = report.runs.map((run) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, run.arm),
      names.map((name) => runCell(run, name)),
    ),
  );
  const all = table(["arm", ...names], rows);
  all.classList.add("runs");
  const others = report.unplanned.map((line) => h("li", {}, line));
  return h(
    "section.card",
    {},
    h("h3", {}, "Every run that the file plans"),
    h("p.note", {}, said.join("   ")),
    all,
    others.length ? [h("h4", {}, "Also on disk, and no part of this"), h("ul.note", {}, others)] : null,
  );
}

function runCell(run, name) {
  const found = run.stages[name];
  if (!found) return h("td");
  const { state, detail, record } = found;
  const said = [`${run.arm} ${name}: ${state} ${detail}`];
  for (const key of ["device", "host", "commit", "source"]) {
    if (record[key]) said.push(`${key} ${String(record[key]).slice(0, 16)}`);
  }
  const sign = h(`span.state.${state}`, { "aria-hidden": true }, STATES[state]);
  return h("td", { "data-tip": said.join("\n") }, sign, h("span.unseen", {}, `${state} ${detail}`));
}

// --- the page ------------------------------------------------------------------------------------------------

function theme() {
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const remembered = () => {
    try {
      return localStorage.getItem("theme");
    } catch {
      return null; // a file may be opened without storage
    }
  };
  const set = (name) => {
    root.dataset.theme = name;
    button.setAttribute("aria-pressed", name === "dark");
  };
  const follow = () => set(remembered() ?? (dark.matches ? "dark" : "light"));
  dark.addEventListener("change", follow);
  button.addEventListener("click", () => {
    set(root.dataset.theme === "dark" ? "light" : "dark");
    try {
      localStorage.setItem("theme", root.dataset.theme);
    } catch {
      // forgotten with the page
    }
  });
  follow();
}

// The section that is being read is marked in the navigation.
function spy(nav, headings) {
  const mark = (id) => {
    for (const link of nav.children) {
      if (link.hash === `#${id}`) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  };
  const seen = (entries) => entries.filter((entry) => entry.isIntersecting).forEach((e) => mark(e.target.id));
  const observer = new IntersectionObserver(seen, { rootMargin: "-10% 0px -75% 0px" });
  for (const heading of headings) observer.observe(heading);
}

function build() {
  const { report } = DATA;
  theme();
  const main = document.getElementById("main");
  const nav = document.getElementById("nav");
  const sections = new Map();
  for (const { section, id } of Object.values(report.figures)) {
    sections.set(section, [...(sections.get(section) ?? []), figure(id)]);
  }
  if (DATA.answers.blocks.length) sections.set("Answers", [...(sections.get("Answers") ?? []), answers()]);
  sections.set("Runs", [runs(report)]);
  main.append(...[verdict(report), warnings(report.warnings)].flat().filter(Boolean));
  for (const [name, cards] of sections) {
    const id = name.toLowerCase().replace(/\W+/g, "-");
    main.append(h("h2", { id }, name), ...cards);
    nav.append(h("a", { href: `#${id}` }, name));
  }
  spy(nav, main.querySelectorAll("h2"));
  document.documentElement.dataset.ready = "yes";
}

addEventListener("error", (event) => {
  document.documentElement.dataset.error = event.message;
});
build();
