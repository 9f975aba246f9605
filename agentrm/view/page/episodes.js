// One or two episodes as conversations, with what each step is worth.

import { ask, button, chip, element, number, treeUrl, whole } from "./dom.js";

const POLL_MS = 500;

// An episode's id is its tree's, and the node where it ended.
const episodeUrl = (id, rest = "") => {
  const at = id.lastIndexOf("/");
  return `/api/episodes/${encodeURIComponent(id.slice(0, at))}/${id.slice(at + 1)}${rest}`;
};

// `chosen` are ids of episodes; one that names a tree alone is its first.
export async function showEpisodes(chosen) {
  document.title = `${chosen.join(" | ")} · AgentRM`;
  document.body.className = "full";
  const bar = element("form", { className: "bar" }, element("a", { href: "/" }, "← Run"));
  const columns = element("div", { className: `panes of${chosen.length}` });
  document.body.replaceChildren(bar, columns);
  try {
    const listed = await ask(treeUrl(chosen[0].split("/")[0], "/episodes"));
    if (!listed.length) throw new Error("no episode has ended in this tree");
    const first = (tree) => listed.find(({ id }) => treeOf(id) === tree) ?? listed[0];
    const ids = chosen.map((id) => (id.includes("/") ? id : first(id).id));
    bar.append(select("episode", listed, ids[0]), select("beside", listed, ids[1]));
    const episodes = await Promise.all(ids.map((id) => ask(episodeUrl(id))));
    const panes = episodes.map((episode) => new Conversation(episode));
    for (const pane of panes) pane.build(panes);
    columns.append(...panes.map((pane) => pane.element));
    for (const pane of panes) pane.requestValues();
  } catch (error) {
    columns.replaceChildren(element("p", { className: "note failed" }, error.message));
  }
}

const treeOf = (id) => id.slice(0, id.lastIndexOf("/"));

// All episodes of the task, of which one is chosen; as the second there may be none.
function select(name, listed, chosen) {
  const told = ({ id, name: own, model, side, steps, outcome, value }) => {
    const parts = [own, model, side, `${whole(steps)} steps`];
    if (outcome !== null) parts.push(`outcome ${number(outcome)}`);
    if (value !== null) parts.push(`value ${number(value, 3)}`);
    return element("option", { value: id, selected: id === chosen }, parts.filter(Boolean).join(" · "));
  };
  const none = name === "beside" ? [element("option", { value: "" }, "Another episode of the task, beside it")] : [];
  const made = element("select", { name, ariaLabel: name === "beside" ? "episode beside it" : "episode" }, ...none);
  made.append(...listed.map(told));
  made.addEventListener("change", () => made.form.requestSubmit());
  return made;
}

class Conversation {
  constructor(episode) {
    this.episode = episode;
    this.values = episode.values ?? [];
    this.element = element("article", { className: "pane conversation", ariaLabel: episode.name });
  }

  // `panes` are all that are shown: values have one scale, and what both say is marked.
  build(panes) {
    this.panes = panes;
    const { name, outcome, stored, tools, steps, tree } = this.episode;
    const told = stored.flatMap(({ file, line, model, side }) => [
      [side, model, `${file}, line ${whole(line)}`].filter(Boolean).join(" · "),
    ]);
    this.valued = element("span", { className: "told", role: "status" });
    this.asking = button("Ask the reward model", () => this.requestValues({ method: "POST" }), { hidden: true });
    this.strip = element("p", { className: "strip", ariaLabel: "value after each step" });
    const inTree = element("a", { href: `/?${new URLSearchParams({ left: tree })}` }, tree);
    const head = element(
      "div",
      { className: "head" },
      element("h2", {}, name),
      element("p", { className: "told" }, "outcome ", chip(outcome), " · in ", inTree),
      ...told.map((text) => element("p", { className: "told" }, text)),
      element("div", { className: "tools" }, this.strip, element("span", { className: "space" }), this.valued, this.asking),
    );
    this.chips = steps.map(() => element("span"));
    this.sections = steps.map((step, place) => this.step(step, place));
    const text = element("div", { className: "steps", tabIndex: 0, ariaLabel: "conversation" });
    if (tools.length) {
      const given = tools.map((tool) => element("pre", {}, JSON.stringify(tool.function, null, 2)));
      text.append(element("details", {}, element("summary", {}, `${whole(tools.length)} tools on offer`), ...given));
    }
    text.append(...this.sections);
    this.element.replaceChildren(head, text);
    this.show();
  }

  step({ node, depth, visits, value, label, reward, text, reasoning, calls, answers }, place) {
    const facts = [];
    if (visits) facts.push(`mean outcome ${number(value, 3)} of ${whole(visits)}`);
    if (label !== null) facts.push(`label ${number(label)}`);
    if (reward !== null) facts.push(`reward ${number(reward, 3)}`);
    const others = this.panes.filter((pane) => pane !== this).map(({ episode }) => episode);
    const same = ({ tree, steps }) => tree === this.episode.tree && steps[place]?.node === node;
    const shared = others.length > 0 && others.every(same);
    if (shared) facts.push("the same in both");
    const heading = element("span", {}, depth ? `Step ${depth} ` : "Start ", this.chips[place]);
    const made = element("section", { className: shared ? "shared" : "" });
    made.append(element("h3", {}, heading, element("small", {}, facts.join(" · "))));
    if (reasoning) made.append(said("agent thought", "reasoning", reasoning));
    if (depth && (text || !calls.length)) made.append(said("agent", "agent", text || "(nothing)"));
    for (const [name, given] of calls) made.append(said("agent", `call of ${name}`, given));
    for (const [speaker, words] of answers) made.append(said("", speaker, words));
    return made;
  }

  async requestValues(options) {
    if (this.episode.values !== null) {
      this.valued.textContent = `values of ${this.episode.scored_by}`;
      return;
    }
    try {
      const { available, asked, values, error } = await ask(episodeUrl(this.episode.id, "/values"), options);
      const count = this.episode.steps.length;
      const done = values.length === count;
      this.values = values;
      this.asking.hidden = asked || !available;
      this.valued.textContent = error || (asked && !done ? `${whole(values.length)} of ${whole(count)} valued` : "");
      if (!available) this.valued.textContent = "no reward model yet";
      for (const pane of this.panes) pane.show();
      if (asked && !done && !error) setTimeout(() => this.requestValues(), POLL_MS);
    } catch (error) {
      this.valued.textContent = error.message;
    }
  }

  show() {
    // Raw values need not lie in [0, 1]; colours are those of all that is shown.
    const known = this.panes.flatMap(({ values }) => values).filter(Number.isFinite);
    const [low, high] = [Math.min(0, ...known), Math.max(1, ...known)];
    const valued = (place) => chip(this.values[place], low, high);
    for (const [place, cell] of this.chips.entries()) cell.replaceChildren(...(this.values.length ? [valued(place)] : []));
    const jump = (place) => button("", () => this.sections[place].scrollIntoView({ block: "start" }), {
      title: place ? `step ${place}` : "start",
    });
    const buttons = this.values.map((_, place) => {
      const made = jump(place);
      made.append(valued(place));
      return made;
    });
    this.strip.replaceChildren(...buttons);
  }
}

function said(kind, name, text) {
  return element("div", { className: kind }, element("h4", {}, name), element("p", {}, text));
}
