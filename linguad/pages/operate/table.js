/** Tables that filter, sort and are taken along as CSV or JSON. Rows keep their elements, so focus stays. */

import { onLanguage, show, t } from "/pages/static/i18n.js";
import { el, say } from "./dom.js";

/** Rows in the page at most; whoever wants others filters. */
const MOST = 200;

/** Made once, for it is slow to make: so that node-10 follows node-9. */
const ORDER = new Intl.Collator(undefined, { numeric: true });

/** Spreadsheets take what begins so for a formula, and names come from strangers. */
const FORMULA = /^[=+\-@\t\r]/;

/**
 * A table. `columns` are `{ name, value, text?, show?, number?, kind? }`: the key of the heading, what a row is sorted and exported by,
 * what is read instead, the element that shows it, and whether it is a number; `kind` is a class of its cells. A cell is made anew when its value or
 * `mark?` changes. `key` names a row.
 */
export class Table {
  #columns;
  #key;
  #name;
  #rows = [];
  #shown = new Map();
  #sorted;
  #body = el("tbody");
  #heads;
  #filter;
  #count = el("span", { class: "quiet small numbers", role: "status" });
  #empty;

  constructor(name, columns, { key, sort, down = false, empty = "nothing", filter = true }) {
    this.#name = name;
    this.#columns = columns;
    this.#key = key;
    this.#sorted = { column: columns.find((one) => one.name === sort) ?? columns[0], down };
    this.#heads = columns.map((column) =>
      el("th", { scope: "col", class: column.number && "number" },
        el("button", { type: "button", class: "plain", "data-t": column.name, onclick: () => this.#sort(column) })));
    this.#filter = el("input", {
      type: "search", "data-t-placeholder": "filter", "data-t-label": "filter", oninput: () => this.#draw(),
    });
    this.#empty = el("p", { class: "empty quiet", "data-t": empty });
    const exports = ["CSV", "JSON"].map((kind) =>
      el("button", { type: "button", class: "plain small", text: kind, "data-t-title": "takeAlong", onclick: () => this.#save(kind) }));
    this.element = el("div", { class: "table" },
      el("div", { class: "tools" }, filter ? this.#filter : "", this.#count, el("span", { class: "space" }), ...exports),
      el("div", { class: "scroll", tabindex: "0", role: "group", "data-t-label": name },
        el("table", {}, el("thead", {}, el("tr", {}, ...this.#heads)), this.#body)),
      this.#empty);
    show(this.element);
    onLanguage(() => {
      this.#shown.clear();
      this.#draw();
    });
    this.#draw();
  }

  /** Takes the rows there are now. */
  set(rows) {
    this.#rows = rows;
    this.#draw();
  }

  /** Looks for a text. */
  find(text) {
    this.#filter.value = text;
    this.#draw();
  }

  #chosen() {
    const words = this.#filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const { column, down } = this.#sorted;
    const found = this.#rows.filter((row) => {
      if (!words.length) return true;
      const text = this.#columns.map((one) => `${plain(one.value(row))} ${one.text?.(row) ?? ""}`).join("\n").toLowerCase();
      return words.every((word) => text.includes(word));
    });
    const sign = down ? -1 : 1;
    return found.sort((a, b) => sign * compare(column.value(a), column.value(b)) || compare(this.#key(a), this.#key(b)));
  }

  #draw() {
    for (const [index, head] of this.#heads.entries()) {
      const { column, down } = this.#sorted;
      const order = this.#columns[index] === column ? (down ? "descending" : "ascending") : null;
      if (order) head.setAttribute("aria-sort", order);
      else head.removeAttribute("aria-sort");
    }
    const chosen = this.#chosen();
    const before = this.#shown;
    this.#shown = new Map();
    let place = this.#body.firstElementChild;
    for (const row of chosen.slice(0, MOST)) {
      const key = String(this.#key(row));
      if (this.#shown.has(key)) continue;
      const line = before.get(key) ?? { element: el("tr"), cells: [] };
      this.#write(line, row);
      this.#shown.set(key, line);
      if (line.element === place) place = place.nextElementSibling;
      else this.#body.insertBefore(line.element, place);
    }
    while (place) {
      const next = place.nextElementSibling;
      place.remove();
      place = next;
    }
    const all = this.#rows.length;
    const values = { shown: Math.min(chosen.length, MOST), found: chosen.length, all };
    say(this.#count, all ? t(chosen.length > MOST ? "countCut" : chosen.length < all ? "countFound" : "countAll", values) : "");
    this.#empty.hidden = chosen.length > 0;
    this.element.classList.toggle("bare", !all);
  }

  #write(line, row) {
    for (const [index, column] of this.#columns.entries()) {
      const mark = JSON.stringify([column.value(row), column.mark?.(row)]);
      const old = line.cells[index];
      if (old?.mark === mark) continue;
      const content = column.show?.(row) ?? column.text?.(row) ?? plain(column.value(row));
      const cell = el("td", { class: column.number ? "number" : column.kind }, content);
      if (old) old.cell.replaceWith(cell);
      else line.element.append(cell);
      line.cells[index] = { mark, cell };
    }
  }

  #sort(column) {
    const same = this.#sorted.column === column;
    this.#sorted = { column, down: same ? !this.#sorted.down : Boolean(column.number) };
    this.#draw();
  }

  #save(kind) {
    const rows = this.#chosen();
    const text = kind === "CSV" ? csv(this.#columns, rows) : `${JSON.stringify(rows, null, 1)}\n`;
    download(`${this.#name}.${kind.toLowerCase()}`, text);
  }
}

/** Rows as CSV, for spreadsheets too. */
export function csv(columns, rows) {
  const lines = [columns.map((column) => column.name), ...rows.map((row) => columns.map((column) => plain(column.value(row))))];
  // Without the mark in front spreadsheets take UTF-8 for something else.
  return "\ufeff" + lines.map((line) => `${line.map(cell).join(",")}\r\n`).join("");
}

/** Gives the reader a file. */
export function download(name, text) {
  const address = URL.createObjectURL(new Blob([text]));
  el("a", { href: address, download: `linguad-${name}` }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

function cell(value) {
  const text = typeof value === "string" && FORMULA.test(value) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function plain(value) {
  if (value === null || value === undefined) return "";
  return typeof value === "number" ? value : String(value);
}

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  if (a === null || a === undefined || a === "") return b === null || b === undefined || b === "" ? 0 : 1;
  if (b === null || b === undefined || b === "") return -1;
  return ORDER.compare(String(a), String(b));
}
