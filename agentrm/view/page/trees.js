// One or two search trees: the bar that chooses them, and a pane for each.

import { ask, element } from "./dom.js";
import { Pane } from "./pane.js";

export function showTrees(chosen) {
  document.title = `${chosen.join(" | ")} · AgentRM`;
  const panes = element("div", { className: `panes of${chosen.length}` });
  document.body.className = "full";
  document.body.replaceChildren(bar(chosen), panes);
  for (const [place, id] of chosen.entries()) panes.append(new Pane(id, place === 0).element);
}

function bar(chosen) {
  const known = element("datalist", { id: "known" });
  const [left, right] = ["left", "right"].map((side, place) =>
    element("input", {
      name: side,
      value: chosen[place] ?? "",
      list: "known",
      autocomplete: "off",
      spellcheck: false,
      placeholder: place ? "A second tree, beside it" : "A tree's id",
      ariaLabel: `${side} tree`,
      oninput: (event) => suggest(event.target.value),
    }),
  );

  async function suggest(text) {
    const { trees } = await ask(`/api/trees?${new URLSearchParams({ text })}`);
    known.replaceChildren(...trees.map(({ id }) => element("option", { value: id })));
  }

  suggest("");
  const back = element("a", { href: "/" }, "← Run");
  return element("form", { className: "bar" }, back, left, right, element("button", {}, "Show"), known);
}
