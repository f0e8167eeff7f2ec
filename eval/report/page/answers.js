"use strict";
// Real answers of two conditions to the same problems, side by side. `/` searches, j and k walk, 1 to 5 filter.

const SHOWN = 15; // problems added at a time
const WHO = ["all", "a", "b", "both", "neither"]; // who is right

function answers() {
  const { sets, blocks, message } = DATA.answers;
  const { primary } = DATA.report;
  const state = { ...blocks[0], filter: "all", query: "", shown: SHOWN };
  state.a = primary?.control ?? CONDITIONS[0];
  state.b = primary?.treated ?? CONDITIONS.at(-1);
  let matches = [];

  // --- controls ----------------------------------------------------------------------------------------------

  const selects = {};
  const choose = (key, name) => {
    const change = () => {
      state[key] = key === "seed" ? Number(selects[key].value) : selects[key].value;
      refill();
      restart();
    };
    selects[key] = h("select", { onchange: change });
    return h("label.field", {}, name, selects[key]);
  };
  const fields = [
    choose("set", "problems"),
    choose("stage", "after"),
    choose("seed", "seed"),
    choose("a", "A"),
    choose("b", "B"),
  ];
  const search = h("input", {
    type: "search",
    placeholder: "words, numbers, token names",
    oninput: () => {
      state.query = search.value.toLowerCase();
      restart();
    },
  });
  const names = h("input", {
    type: "checkbox",
    onchange: () => list.classList.toggle("named", names.checked),
  });
  const filter = h("fieldset.filter", {}, h("legend.unseen", {}, "Who is right"));
  const status = h("p.note", { role: "status" });
  const list = h("div");
  const add = () => {
    state.shown += SHOWN;
    fill();
  };
  const more = h("button.more", { type: "button", onclick: add });

  // Offers what there is: a choice narrows those after it.
  function refill() {
    const offer = (key, values, otherwise) => {
      if (!values.includes(state[key])) state[key] = otherwise;
      const option = (value) => h("option", { value, selected: value === state[key] }, String(value));
      selects[key].replaceChildren(...values.map(option));
    };
    let found = blocks;
    for (const key of ["set", "stage", "seed"]) {
      const values = [...new Set(found.map((block) => block[key]))];
      offer(key, values, values[0]);
      found = found.filter((block) => block[key] === state[key]);
    }
    const there = CONDITIONS.filter((name) => found.some((block) => block.condition === name));
    offer("a", there, there[0]);
    offer("b", there, there.at(-1));
  }

  // --- what is shown -----------------------------------------------------------------------------------------

  function restart() {
    const of = (condition) => {
      const same = (block) => ["stage", "set", "seed"].every((key) => block[key] === state[key]);
      return blocks.find((block) => same(block) && block.condition === condition).answers;
    };
    const [a, b] = [of(state.a), of(state.b)];
    const all = sets[state.set].map(([question, gold], i) => ({ question, gold, sides: [a[i], b[i]] }));
    const found = all.filter((each) => !state.query || searched(each).includes(state.query));
    const title = {
      all: "all",
      a: `only ${state.a}`,
      b: `only ${state.b}`,
      both: "both",
      neither: "neither",
    };
    const chip = (name) => {
      const count = found.filter((each) => name === "all" || who(each) === name).length;
      const checked = name === state.filter;
      const box = h("input", {
        type: "radio",
        name: "who",
        value: name,
        checked,
        onchange: () => pick(name),
      });
      return h("label", {}, box, h("span", {}, `${title[name]} · ${count}`));
    };
    filter.querySelectorAll("label").forEach((label) => label.remove());
    filter.append(...WHO.map(chip));
    matches = found.filter((each) => state.filter === "all" || who(each) === state.filter);
    state.shown = SHOWN;
    list.replaceChildren();
    fill();
  }

  function pick(name) {
    state.filter = name;
    restart();
    filter.querySelector(":checked").focus();
  }

  function fill() {
    const first = list.children.length;
    list.append(...matches.slice(first, state.shown).map((each, i) => problem(each, first + i === 0)));
    const shown = Math.min(state.shown, matches.length);
    status.textContent = matches.length ? `${shown} of ${matches.length} shown` : "Nothing matches.";
    more.hidden = shown === matches.length;
    more.textContent = `Show ${Math.min(SHOWN, matches.length - shown)} more`;
  }

  function problem(each, open) {
    const sides = [state.a, state.b].map((name, i) => [name, each.sides[i]]);
    const sign = ([name, answer]) => {
      const words = h("span.unseen", {}, ` ${name} ${answer[2] ? "right" : "wrong"}, `);
      return h(`span.${own(name)}`, {}, answer[2] ? "✓" : "✗", words);
    };
    const head = h("summary", {}, h("span.marks", {}, sides.map(sign)), h("span.asked", {}, each.question));
    const details = h("details.reply", { open }, head);
    const body = () =>
      h(
        "div.pair",
        {},
        sides.map(([name, answer]) => reply(name, answer, each.gold, state.query)),
      );
    if (open) details.append(body());
    details.addEventListener("toggle", () => {
      if (details.open && !details.querySelector(".pair")) details.append(body());
    });
    return details;
  }

  // --- keys --------------------------------------------------------------------------------------------------

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("input[type=search], select")) return;
    if (event.key === "/") {
      event.preventDefault();
      search.focus();
    }
    if (!card.contains(document.activeElement)) return;
    const step = { j: 1, k: -1 }[event.key];
    if (step) {
      const heads = [...list.querySelectorAll("summary")];
      heads[Math.max(0, heads.indexOf(document.activeElement) + step)]?.focus();
    } else if (WHO[event.key - 1]) {
      pick(WHO[event.key - 1]);
    }
  });

  const keys = { "/": "search", "j k": "next, previous", "1 – 5": "filter" };
  const help = Object.entries(keys).map(([name, what]) => [h("kbd", {}, name), ` ${what} · `]);
  const card = h(
    "section.card",
    { id: "replies", tabindex: -1 },
    h("h3", {}, "Real answers, side by side"),
    h("p.note", {}, message),
    h(
      "div.controls",
      {},
      fields,
      h("label.field.grow", {}, "search", search),
      h("label.note", {}, names, " token names"),
    ),
    filter,
    h("p.note", {}, help, "highlighted: one fact token, as it reads"),
    status,
    list,
    more,
  );
  refill();
  restart();
  return card;
}

// --- one problem ---------------------------------------------------------------------------------------------

// An answer is [pieces, answer as read, right, class, ended, samples]; a piece is text, or [what a token says, its
// name]. Samples, where there are any, are [pieces, answer as read, right, score, ended, how many].

function who({ sides: [a, b] }) {
  return a[2] && b[2] ? "both" : a[2] ? "a" : b[2] ? "b" : "neither";
}

function searched({ question, sides }) {
  const words = sides.flatMap(([pieces]) => pieces.map((piece) => [piece].flat().join(" ")));
  return `${question} ${words.join("")}`.toLowerCase();
}

function reply(name, [pieces, read, right, error, ended, samples], gold, query) {
  const wrong = () => h("b.wrong", {}, read == null ? "no answer" : `${error}: ${read}`);
  const facts = pieces.filter((piece) => typeof piece !== "string").length;
  return h(
    `article.${own(name)}`,
    {},
    h("b", {}, name),
    " · ",
    right ? h("b.right", {}, `right: ${read}`) : [wrong(), h("span.note", {}, ` (gold ${gold})`)],
    text(pieces, ended, query),
    facts ? h("p.note", {}, `${facts} fact token${facts > 1 ? "s" : ""}`) : null,
    samples ? drawn(samples) : null,
  );
}

function text(pieces, ended, query) {
  const chip = ([words, token]) => h("mark.fact", { title: token }, words || "·", h("small", {}, token));
  const body = pieces.map((piece, i) => {
    if (typeof piece !== "string") return chip(piece);
    return underlined(i ? piece : piece.trimStart(), query);
  });
  return h("pre", {}, body, ended ? null : h("span.note", {}, " … not ended"));
}

// The different samples of a problem; their texts are made once they are opened.
function drawn(samples) {
  const total = samples.reduce((sum, each) => sum + each[5], 0);
  const right = samples.reduce((sum, each) => sum + each[2] * each[5], 0);
  const head = h("summary", {}, `samples: ${right} of ${total} right, ${samples.length} different`);
  const whole = h("details.samples", {}, head);
  const one = ([pieces, read, right, score, ended, count]) => {
    const said = right ? h("b.right", {}, `right: ${read}`) : h("b.wrong", {}, read ?? "no answer");
    const more = `${score == null ? "" : ` · score ${score}`}${count > 1 ? ` · ${count} times` : ""}`;
    return h("div.sample", {}, said, h("span.note", {}, more), text(pieces, ended, ""));
  };
  whole.addEventListener("toggle", () => {
    if (whole.open && !whole.querySelector(".sample")) whole.append(...samples.map(one));
  });
  return whole;
}

// The text with what is searched for underlined.
function underlined(words, query) {
  if (!query) return words;
  const parts = [];
  let at = 0;
  for (let next; (next = words.toLowerCase().indexOf(query, at)) >= 0; at = next + query.length) {
    parts.push(words.slice(at, next), h("mark.found", {}, words.slice(next, next + query.length)));
  }
  return [...parts, words.slice(at)];
}
