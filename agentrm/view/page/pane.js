// One search tree. Only the rows in sight exist, so the size of the tree does not matter.

import { ask, button, chip, element, number, treeUrl, whole } from "./dom.js";

const ROW = 28;
const SPARE = 8;
const INDENT = 14;
const POLL_MS = 500;
const TYPING_MS = 200;

const MARKS = {
  visited: ["●", "most visits at every step: what the search would play"],
  highest: ["◆", "highest value at every step"],
  scored: ["▲", "highest reward-model value at every step"],
};

export class Pane {
  constructor(id, focused) {
    this.id = id;
    this.focused = focused;
    this.open = new Set([0]);
    this.marks = { visited: new Set(), highest: new Set(), scored: new Set() };
    this.values = [];
    this.hits = [];
    this.selected = 0;
    this.element = element("article", { className: "pane", ariaLabel: id });
    this.load();
  }

  async load() {
    this.element.replaceChildren(element("p", { className: "note" }, "Reading the tree …"));
    try {
      const tree = await ask(treeUrl(this.id));
      Object.assign(this, { tree, ...tree.columns });
    } catch (error) {
      this.element.replaceChildren(element("p", { className: "note failed" }, error.message));
      return;
    }
    this.count = this.parent.length;
    this.children = this.parent.map(() => []);
    this.depth = new Array(this.count).fill(0);
    for (let node = 1; node < this.count; node += 1) {
      this.children[this.parent[node]].push(node);
      this.depth[node] = this.depth[this.parent[node]] + 1;
    }
    this.untaken = new Set(this.tree.untaken);
    this.marks.visited = new Set(this.tree.most_visited);
    this.marks.highest = new Set(this.tree.highest_value);
    for (const node of [...this.tree.most_visited, ...this.tree.highest_value]) this.open.add(node);
    this.build();
    this.select(0);
    if (this.focused) this.rows.focus();
    this.requestValues();
  }

  build() {
    const { facts } = this.tree;
    this.imported = facts.ended_by === "imported";
    const grown = [
      `${whole(facts.iterations)} iterations, ended by ${facts.ended_by || "nothing yet"}`,
      `${whole(facts.policy_tokens)} policy tokens`,
      `${whole(facts.environment_steps)} environment steps`,
      `${facts.seconds.toFixed(1)} s`,
    ];
    const told = [
      `${whole(this.count)} nodes`,
      ...(this.imported ? [`${whole(facts.iterations)} imported episodes`] : grown),
    ];
    if (facts.environment_errors) told.push(`${facts.environment_errors} environment errors`);
    if (facts.engine_errors) told.push(`${facts.engine_errors} engine errors`);
    this.search = element("input", {
      type: "search",
      placeholder: "Search the text (/)",
      ariaLabel: "Search actions, thoughts and observations",
      oninput: () => this.find(),
      onkeydown: (event) => this.searchKey(event),
    });
    this.found = element("span", { className: "told", role: "status" });
    this.asking = button("Ask the reward model", () => this.requestValues({ method: "POST" }));
    this.valued = element("span", { className: "told", role: "status" });
    const legend = element(
      "p",
      { className: "marks" },
      ...Object.entries(MARKS).map(([name, [sign, text]]) =>
        element("span", {}, element("b", { className: name }, sign), ` ${text}`),
      ),
    );
    this.canvas = element("div", { className: "canvas" });
    this.rows = element(
      "div",
      {
        className: "rows",
        tabIndex: 0,
        role: "treegrid",
        ariaLabel: "nodes of the tree",
        onscroll: () => this.draw(),
        onkeydown: (event) => this.key(event),
        onclick: (event) => this.click(event),
      },
      this.canvas,
    );
    this.steps = element("div", { className: "steps", tabIndex: 0, ariaLabel: "text of the path" });
    const heads = ["action", "step", "visits", "value", "model", "outcome"];
    const tools = [
      this.search,
      this.found,
      button("Expand all", () => this.expandAll()),
      button("Collapse", () => this.collapseAll()),
      element("span", { className: "space" }),
      this.valued,
      this.asking,
    ];
    this.element.replaceChildren(
      element(
        "div",
        { className: "head" },
        element("h2", {}, this.id),
        element("p", { className: "told" }, told.join(" · ")),
      ),
      element(
        "div",
        { className: "grid" },
        element("div", { className: "tools" }, ...tools),
        element("div", { className: "row heads" }, ...heads.map((name) => element("span", {}, name))),
        this.rows,
        legend,
      ),
      this.steps,
    );
    new ResizeObserver(() => this.draw()).observe(this.rows);
    this.layOut();
  }

  // The nodes that stand in the list, in its order: those whose ancestors are all open.
  layOut() {
    this.listed = [];
    const stack = [0];
    while (stack.length) {
      const node = stack.pop();
      this.listed.push(node);
      if (this.open.has(node)) for (const child of this.children[node].toReversed()) stack.push(child);
    }
    this.place = new Map(this.listed.map((node, place) => [node, place]));
    this.canvas.style.height = `${this.listed.length * ROW}px`;
    this.draw();
  }

  draw() {
    const first = Math.max(0, Math.floor(this.rows.scrollTop / ROW) - SPARE);
    const last = Math.min(this.listed.length, Math.ceil((this.rows.scrollTop + this.rows.clientHeight) / ROW) + SPARE);
    const rows = [];
    for (let place = first; place < last; place += 1) rows.push(this.row(this.listed[place], place));
    this.canvas.replaceChildren(...rows);
  }

  row(node, place) {
    const inner = this.children[node].length > 0;
    const caret = element("span", { className: "caret" }, inner ? (this.open.has(node) ? "▾" : "▸") : "");
    const marks = Object.entries(MARKS)
      .filter(([name]) => this.marks[name].has(node))
      .map(([name, [sign, text]]) => element("b", { className: name, title: text }, sign));
    const text = node ? this.action[node] || "(nothing)" : "start";
    const action = element("span", { className: "action", title: text }, caret, ...marks, ` ${text}`);
    action.style.paddingLeft = `min(${this.depth[node] * INDENT}px, 45%)`;
    if (this.malformed[node]) action.append(element("em", { title: "not in the asked format" }, "malformed"));
    if (this.merged[node] > 1)
      action.append(element("em", { title: "sampled turns that led here" }, `×${this.merged[node]}`));
    if (this.untaken.has(node)) action.append(element("em", { title: "another turn was better by the reward model" }, "not taken"));
    const cells = [
      action,
      element("span", {}, String(this.depth[node])),
      element("span", {}, whole(this.visits[node])),
      element("span", {}, chip(this.visits[node] ? this.value[node] : null)),
      element("span", {}, chip(this.values[node])),
      element("span", {}, ...this.result(node)),
    ];
    const made = element("div", { className: "row", role: "row" }, ...cells);
    made.dataset.node = node;
    made.style.top = `${place * ROW}px`;
    made.classList.toggle("selected", node === this.selected);
    made.classList.toggle("passed", this.passed.has(node));
    made.classList.toggle("hit", this.hits.includes(node));
    made.setAttribute("aria-level", this.depth[node] + 1);
    made.setAttribute("aria-selected", node === this.selected);
    if (inner) made.setAttribute("aria-expanded", this.open.has(node));
    return made;
  }

  result(node) {
    if (this.outcome[node] !== null) {
      const grown = this.terminal[node] ? "the environment ended the episode" : "the episode was as long as it may be";
      const why = this.imported ? "an episode ended here: its outcome, of several the mean" : grown;
      return [element("span", { title: why }, chip(this.outcome[node]))];
    }
    if (this.estimate[node] === null) return [];
    const why = "a reward model's estimate: what was compared, or where the rollout was cut";
    return [element("span", { className: "told", title: why }, `≈ ${number(this.estimate[node])}`)];
  }

  get passed() {
    if (this.passedOf !== this.selected) {
      this.passedOf = this.selected;
      this.ancestors = new Set();
      for (let node = this.parent[this.selected]; node >= 0; node = this.parent[node]) this.ancestors.add(node);
    }
    return this.ancestors;
  }

  select(node) {
    this.selected = node;
    let closed = false;
    for (const each of this.passed) {
      closed ||= !this.open.has(each);
      this.open.add(each);
    }
    if (closed) this.layOut();
    const top = this.place.get(node) * ROW;
    if (top < this.rows.scrollTop) this.rows.scrollTop = top;
    const lowest = top + ROW - this.rows.clientHeight;
    if (lowest > this.rows.scrollTop) this.rows.scrollTop = lowest;
    this.draw();
    this.tell(node);
  }

  async tell(node) {
    try {
      const steps = await ask(treeUrl(this.id, `/path/${node}`));
      if (node === this.selected) this.steps.replaceChildren(...steps.map((step) => this.step(step)));
      this.steps.lastElementChild?.scrollIntoView({ block: "nearest" });
    } catch (error) {
      this.steps.replaceChildren(element("p", { className: "note failed" }, error.message));
    }
  }

  step({ node, depth, thought, action, text, malformed, removed, tokens, logprob, reasoning, calls, answers }) {
    const facts = [`N ${whole(this.visits[node])}`, `V ${number(this.value[node], 3)}`];
    if (Number.isFinite(this.values[node])) facts.push(`model ${number(this.values[node], 3)}`);
    if (this.outcome[node] !== null)
      facts.push(`outcome ${number(this.outcome[node], 3)}, progress ${number(this.progress[node], 3)}`);
    if (tokens) facts.push(`${tokens} tokens, log-probability ${number(logprob)}`);
    const head = element("h3", {}, depth ? `Step ${depth}` : "Start", element("small", {}, facts.join(" · ")));
    const made = element("section", {}, head);
    if (this.outcome[node] !== null) {
      const href = `/?${new URLSearchParams({ episode: `${this.id}/${node}` })}`;
      made.append(element("p", { className: "told" }, element("a", { href }, "Read the episode that ended here")));
    }
    if (reasoning) made.append(block("reasoning", reasoning));
    if (thought) made.append(block("thought", thought));
    if (depth && !calls.length) made.append(block("action", action));
    for (const [name, given] of calls) made.append(block(`call of ${name}`, given));
    if (malformed && text !== action) made.append(block("whole turn, malformed", text));
    if (removed) made.append(block("removed from the turn", removed));
    for (const [speaker, said] of answers) made.append(block(speaker, said));
    return made;
  }

  toggle(node) {
    if (!this.children[node].length) return;
    if (!this.open.delete(node)) this.open.add(node);
    this.layOut();
    if (!this.place.has(this.selected)) this.select(node);
  }

  expandAll() {
    this.open = new Set(this.parent.keys());
    this.layOut();
  }

  collapseAll() {
    this.open = new Set([0]);
    this.layOut();
    this.select(0);
  }

  click(event) {
    const row = event.target.closest(".row");
    if (!row) return;
    const node = Number(row.dataset.node);
    if (event.target.closest(".caret")) this.toggle(node);
    else this.select(node);
  }

  key(event) {
    const step = (by) => {
      const place = this.place.get(this.selected) + by;
      this.select(this.listed[Math.min(this.listed.length - 1, Math.max(0, place))]);
    };
    const toParent = () => this.selected && this.select(this.parent[this.selected]);
    const page = Math.max(1, Math.floor(this.rows.clientHeight / ROW) - 1);
    const inner = this.children[this.selected].length > 0;
    const isOpen = this.open.has(this.selected);
    const actions = {
      ArrowDown: () => step(1),
      ArrowUp: () => step(-1),
      PageDown: () => step(page),
      PageUp: () => step(-page),
      Home: () => step(-this.listed.length),
      End: () => step(this.listed.length),
      ArrowRight: () => (inner && !isOpen ? this.toggle(this.selected) : inner && step(1)),
      ArrowLeft: () => (inner && isOpen ? this.toggle(this.selected) : toParent()),
      Enter: () => this.toggle(this.selected),
      "/": () => this.search.focus(),
    };
    if (!(event.key in actions) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    actions[event.key]();
  }

  find() {
    clearTimeout(this.typing);
    this.typing = setTimeout(async () => {
      const text = this.search.value.trim();
      const hits = text ? await ask(treeUrl(this.id, `/matches?${new URLSearchParams({ text })}`)) : [];
      if (text !== this.search.value.trim()) return;
      this.hits = hits;
      this.hit = -1;
      this.found.textContent = text ? `${whole(hits.length)} found` : "";
      if (hits.length) this.next(1);
      else this.draw();
    }, TYPING_MS);
  }

  next(by) {
    if (!this.hits.length) return;
    this.hit = (this.hit + by + this.hits.length) % this.hits.length;
    this.found.textContent = `${whole(this.hit + 1)} of ${whole(this.hits.length)}`;
    this.select(this.hits[this.hit]);
  }

  searchKey(event) {
    if (event.key === "Enter") this.next(event.shiftKey ? -1 : 1);
    if (event.key === "Escape") this.rows.focus();
  }

  async requestValues(options) {
    try {
      this.showValues(await ask(treeUrl(this.id, "/values"), options));
    } catch (error) {
      this.valued.textContent = error.message;
    }
  }

  showValues({ available, asked, values, error }) {
    this.values = values;
    const done = values.length === this.count;
    this.asking.hidden = asked || !available;
    this.valued.textContent = error || (asked && !done ? `${whole(values.length)} of ${whole(this.count)} valued` : "");
    if (!available) this.valued.textContent = "no reward model yet";
    if (done) {
      this.markScored();
      this.tell(this.selected);
    }
    this.draw();
    if (asked && !done && !error) setTimeout(() => this.requestValues(), POLL_MS);
  }

  markScored() {
    const value = (node) => this.values[node] ?? -Infinity;
    const path = [0];
    for (let next = this.children[0]; next.length; next = this.children[path.at(-1)])
      path.push(next.reduce((best, node) => (value(node) > value(best) ? node : best)));
    this.marks.scored = new Set(path);
  }
}

function block(name, text) {
  return element("div", { className: name.split(" ")[0] }, element("h4", {}, name), element("p", {}, text));
}
