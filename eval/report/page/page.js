"use strict";
// Dark and light, the section that is being read, the tables of numbers, and the answers put in their place.

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

// A figure's table, made when it is opened.
function numbers(details) {
  const { columns, rows } = DATA.report.figures[details.dataset.figure];
  const cell = (value) =>
    typeof value === "number"
      ? h("td.n", {}, String(+value.toPrecision(5)).replace("-", "−"))
      : h("td", {}, value ?? "");
  details.addEventListener("toggle", () => {
    if (details.querySelector("table")) return;
    const body = rows.map((row) => h("tr", {}, row.map(cell)));
    details.append(table(columns, body));
  });
}

addEventListener("error", (event) => {
  document.documentElement.dataset.error = event.message;
});
theme();
document.querySelectorAll("details[data-figure]").forEach(numbers);
document.getElementById("replies-here")?.replaceWith(answers());
spy(document.getElementById("nav"), document.querySelectorAll("main h2"));
document.documentElement.dataset.ready = "yes";
