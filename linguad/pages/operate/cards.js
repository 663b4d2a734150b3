/** A row of numbers that are only numbers: `[{ name, value, level? }]`, names as keys of texts. */

import { show } from "/pages/static/i18n.js";
import { el, say } from "./dom.js";

export class Cards {
  #cards = new Map();
  element = el("dl", { class: "tiles plain" });

  constructor(...names) {
    for (const name of names) {
      const value = el("dd", { class: "value numbers", text: "–" });
      const element = el("div", { class: "tile card", "data-card": name }, el("dt", { class: "small quiet", "data-t": name }), value);
      this.#cards.set(name, { element, value });
      this.element.append(element);
    }
    show(this.element);
  }

  /** Writes `{ NAME: text | [text, level] }`. */
  set(values) {
    for (const [name, told] of Object.entries(values)) {
      const [text, level] = Array.isArray(told) ? told : [told, ""];
      const { element, value } = this.#cards.get(name);
      say(value, text);
      element.dataset.level = level;
    }
  }
}
