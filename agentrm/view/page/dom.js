// Elements and requests. All text reaches the page as text nodes: what environments and models write is never HTML.

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key in made && key !== "list") made[key] = value; // An input's list can only be read.
    else made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export function button(name, onclick, attributes = {}) {
  return element("button", { type: "button", onclick, ...attributes }, name);
}

// The answer of the server, or an error whose message the server wrote for people.
export async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("agentrm view does not answer: is it still running?");
  }
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error?.message ?? `the server answered ${response.status}`);
  return answer;
}

export const treeUrl = (id, rest = "") => `/api/trees/${encodeURIComponent(id)}${rest}`;

export const number = (value, digits = 2) => (value === null || value === undefined ? "" : value.toFixed(digits));

export const whole = (value) => value.toLocaleString("en");

// A figure on a colour from low to high; the colour is only a help, the figure says it all.
export function chip(value, low = 0, high = 1) {
  if (value === null || value === undefined) return element("span", { className: "none" }, "·");
  const made = element("span", { className: "chip" }, number(value));
  made.style.setProperty("--share", `${Math.min(1, Math.max(0, (value - low) / (high - low))) * 100}%`);
  return made;
}

export function table(headings, rows) {
  const head = element("tr", {}, ...headings.map((heading) => element("th", {}, heading)));
  const body = rows.map(({ class: kind, cells }) =>
    element("tr", { className: kind ?? "" }, ...cells.map((cell) => element("td", {}, ...interval(cell)))),
  );
  const made = element("table", {}, element("thead", {}, head), element("tbody", {}, ...body));
  return element("div", { className: "wide" }, made);
}

function interval(cell) {
  if (typeof cell !== "string") return [cell];
  const at = cell.indexOf(" [");
  return at < 0 ? [cell] : [cell.slice(0, at + 1), element("small", {}, cell.slice(at + 1))];
}
