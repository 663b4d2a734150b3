/** Makes elements. Whatever comes from outside is only ever text: there is no way here to set HTML. */

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element. `class`, `text` and `on…` listeners are what they say, other members are attributes; null, undefined
 * and false leave an attribute out. Children that are no nodes become text.
 */
export function el(tag, members = {}, ...children) {
  return fill(document.createElement(tag), members, children);
}

/** An element of SVG. */
export function svg(tag, members = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), members, children);
}

function fill(element, members, children) {
  for (const [name, value] of Object.entries(members)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") element.textContent = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Sets a text if it is another one, so that readers and selections are not disturbed. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A part of a page, with a heading that names it; `tools` stand beside the heading. */
export function section(id, title, ...children) {
  const heading = el("h2", { id: `${id}-title`, "data-t": title });
  const head = el("div", { class: "head" }, heading);
  return el("section", { id, class: "card", "aria-labelledby": heading.id }, head, ...children);
}
