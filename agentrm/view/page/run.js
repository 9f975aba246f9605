// The run: its stages, curves, results and trees. What is not there yet is said, and looked for again.

import { ask, button, chip, element, table, whole } from "./dom.js";

const AGAIN_MS = 10000;
const STATES = { done: "done", begun: "begun", missing: "not there yet" };

export function showRun() {
  const title = element("h1", {}, "AgentRM");
  const place = element("p", {}, "");
  const told = element("span", { className: "told", role: "status" });
  const again = button("Refresh", () => refresh());
  const sections = [
    section("Stages", "/api/run", stages),
    section("Training curves", "/api/curves", curves),
    section("Results", "/api/results", results),
    section("Score against budget", "/api/results", budget),
    section("The reward model on held-out trees", "/api/quality", quality),
    treeList(),
    section("Configuration", "/api/run", configuration),
  ];
  const header = element("header", {}, title, place, element("span", { className: "space" }), told, again);
  document.body.replaceChildren(element("main", {}, header, ...sections.map((each) => each.element)));
  let timer;

  async function refresh() {
    clearTimeout(timer);
    try {
      const asked = new Map();
      const once = (path) => asked.get(path) ?? asked.set(path, ask(path)).get(path);
      const run = await once("/api/run");
      title.textContent = run.name;
      document.title = `${run.name} · AgentRM`;
      place.textContent = run.path;
      await Promise.all(sections.map((each) => each.refresh(once)));
      told.textContent = `as of ${new Date().toLocaleTimeString()}`;
      if (run.stages.every((stage) => stage.state === "done")) return;
    } catch (error) {
      told.textContent = error.message;
    }
    timer = setTimeout(refresh, AGAIN_MS);
  }

  refresh();
}

function section(heading, path, render) {
  const body = element("div");
  let shown = null;
  return {
    element: element("section", {}, element("h2", {}, heading), body),
    async refresh(once) {
      const answer = await once(path);
      const text = JSON.stringify(answer);
      if (text === shown) return;
      shown = text;
      body.replaceChildren(...[render(answer)].flat());
    },
  };
}

const note = (text) => element("p", { className: "note" }, text);

// The server's own drawings, whose texts it has escaped.
function figure(svg) {
  const made = element("div", { className: "wide figure" });
  made.innerHTML = svg;
  return made;
}

function stages(run) {
  const rows = run.stages.map((stage) => {
    const state = element("span", { className: `state ${stage.state}` }, STATES[stage.state]);
    const figures = Object.entries(stage.figures).map(([name, value]) => `${name} ${short(value)}`);
    const text = stage.state === "missing" ? `run ${stage.command}` : figures.join(", ").replaceAll("_", " ");
    return { cells: [stage.name, state, progress(stage), element("span", { className: "figures" }, text)] };
  });
  const made = table(["stage", "state", "progress", "figures"], rows);
  made.classList.add("stages");
  return made;
}

function short(value) {
  if (Number.isInteger(value)) return whole(value);
  return Math.abs(value) < 1e-3 ? value.toExponential(1) : value.toLocaleString("en", { maximumSignificantDigits: 4 });
}

function progress(stage) {
  if (!stage.total) return "";
  const bar = element("progress", { max: stage.total, value: stage.done });
  return element("span", { className: "progress" }, bar, `${whole(stage.done)} of ${whole(stage.total)} ${stage.unit}`);
}

function curves({ figure: svg }) {
  if (!svg) return note("No fit has taken a step yet. Its loss is shown while it runs.");
  return [figure(svg), element("p", { className: "caption" }, "Loss of each step, and its running mean in blue.")];
}

function results({ headings, groups, figures }) {
  if (!groups.length) return note("Nothing is evaluated yet: agentrm evaluate makes the table.");
  const legend = element(
    "p",
    { className: "legend" },
    element("span", { className: "scored" }, "the reward model chooses"),
    element("span", { className: "baseline" }, "no reward model"),
    element("span", { className: "ceiling" }, "the oracle chooses"),
  );
  const tables = groups.flatMap((group) => [
    element("h3", {}, `${group.name}, ${whole(group.tasks)} tasks`),
    table(headings, group.rows),
  ]);
  return [legend, figure(figures.outcome), ...tables];
}

function budget({ figures }) {
  if (!figures.budget) return note("Nothing is evaluated yet: agentrm evaluate measures what every method costs.");
  return [figure(figures.budget), element("p", { className: "caption" }, "Further left and higher is better.")];
}

function quality({ headings, rows, verdicts }) {
  if (!rows.length) return note("No reward model is trained yet: agentrm train measures it on held-out trees.");
  return [table(headings, rows), ...verdicts.map((text) => element("p", { className: "caption" }, text))];
}

function configuration(run) {
  const versions = Object.entries(run.versions).map(([name, version]) => `${name} ${version}`);
  return [
    element("p", { className: "caption" }, versions.join(", ")),
    element("details", {}, element("summary", {}, "config.yaml"), element("pre", {}, run.config)),
  ];
}

function treeList() {
  const ticked = new Set();
  const filter = element("input", {
    type: "search",
    placeholder: "Filter by id",
    ariaLabel: "Filter trees by id",
    oninput: () => refresh(1),
  });
  const count = element("span", { className: "told" });
  const compare = button("Side by side", () => open([...ticked]), { disabled: true });
  const body = element("div");
  const more = button("Show more", () => refresh(pages + 1), { className: "more", hidden: true });
  let pages = 1;
  let shown = null;
  let latest = 0;

  async function refresh(wanted = pages) {
    const request = ++latest;
    const found = [];
    let total = 0;
    for (let page = 0; page < wanted; page += 1) {
      const answer = await ask(`/api/trees?${new URLSearchParams({ text: filter.value, start: found.length })}`);
      found.push(...answer.trees);
      total = answer.total;
    }
    if (request !== latest) return;
    pages = wanted;
    count.textContent = found.length < total ? `${whole(found.length)} of ${whole(total)}` : `${whole(total)} trees`;
    more.hidden = found.length >= total;
    const text = JSON.stringify(found);
    if (text === shown) return;
    shown = text;
    const none = filter.value ? "No tree's id contains this." : "There are no trees yet: agentrm trees grows them.";
    body.replaceChildren(found.length ? list(found) : note(none));
  }

  function list(found) {
    const rows = found.map((tree) => {
      const tick = element("input", {
        type: "checkbox",
        checked: ticked.has(tree.id),
        ariaLabel: `compare ${tree.id}`,
        onchange: () => {
          ticked[tick.checked ? "add" : "delete"](tree.id);
          compare.disabled = ticked.size !== 2;
        },
      });
      const link = element("a", { href: `/?${new URLSearchParams({ left: tree.id })}` }, tree.id);
      const values = [chip(tree.value), chip(tree.best)];
      const counts = [tree.nodes, tree.visits].map(whole);
      const ended = tree.ended
        ? element("a", { href: `/?${new URLSearchParams({ episode: tree.id })}` }, whole(tree.ended))
        : "0";
      return { cells: [tick, link, ...counts, ended, ...values, whole(tree.iterations), tree.ended_by] };
    });
    const made = table(
      ["", "tree", "nodes", "root visits", "episodes", "root value", "best outcome", "iterations", "ended by"],
      rows,
    );
    made.classList.add("trees");
    return made;
  }

  const tools = element("div", { className: "tools" }, filter, count, element("span", { className: "space" }), compare);
  const made = element("section", {}, element("h2", {}, "Search trees"), tools, body, more);
  return { element: made, refresh: () => refresh() };
}

function open([left, right]) {
  location.assign(`/?${new URLSearchParams({ left, right })}`);
}
