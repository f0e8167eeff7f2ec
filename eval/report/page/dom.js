"use strict";
// Elements made of data: words are only ever text nodes, never markup.

const DATA = JSON.parse(document.getElementById("data").textContent);
const CONDITIONS = Object.keys(DATA.report.conditions);

// h("p.note", {id: "x"}, "words", child) is an element.
function h(selector, attributes, ...children) {
  const [tag, ...classes] = selector.split(".");
  const element = document.createElement(tag);
  if (classes.length) element.setAttribute("class", classes.join(" "));
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value != null && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child != null));
  return element;
}

function table(head, rows) {
  const cells = head.map((words) => h("th", { scope: "col" }, words));
  const whole = h("table", {}, h("thead", {}, h("tr", {}, cells)), h("tbody", {}, rows));
  return h("div.scroll", { tabindex: 0 }, whole);
}

// The class that gives --own, a condition's colour.
const own = (condition) => `own${Math.max(0, CONDITIONS.indexOf(condition)) % 8}`;
