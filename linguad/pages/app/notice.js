/** One line about what is wrong, or right again, in the language of the page. */

import { t } from "../static/i18n.js";

const GOOD_NEWS_MS = 4_000;

export class Notice {
  constructor(line) {
    this._line = line;
    this._said = null;
  }

  /** Says the text of a key; `kind` is good, warn or bad, and good news go by themselves. */
  say(key, values, kind) {
    const said = { key, values };
    this._said = said;
    this._line.className = kind;
    this._line.hidden = false;
    this.retell();
    if (kind === "good") setTimeout(() => said === this._said && this.clear(), GOOD_NEWS_MS);
  }

  /** Whether this text is the one that is to be read. */
  says(key) { return this._said?.key === key; }

  clear() {
    this._said = null;
    this._line.hidden = true;
  }

  /** The text again, after the language of the page changed. */
  retell() {
    const text = this._said && t(this._said.key, this._said.values);
    // Screen readers read what is set, even if it is the same.
    if (text && this._line.textContent !== text) this._line.textContent = text;
  }
}
