/** Which languages can be had now, and the fields in which they are chosen. */

import { language, languageName, remember, remembered, t } from "../static/i18n.js";

const ASK_AGAIN_MS = 15_000;
const REMEMBERED_AS = { spoken: "linguad.spoken", wanted: "linguad.wanted", heard: "linguad.heard" };

export class Languages {
  /** `spoken` and `wanted` are fields of the page, `speaks` and `hears` of the door; `onChange` follows. */
  constructor({ spoken, wanted, speaks, hears, onChange }) {
    this._fields = { spoken, wanted, speaks, hears };
    this._onChange = onChange;
    this._pairs = [];
    this.isReached = true;
    this.isInRoom = false;
    this.chosen = Object.fromEntries(Object.entries(REMEMBERED_AS).map(([role, name]) => [role, remembered(name, "")]));
    for (const field of [spoken, speaks]) {
      field.addEventListener("change", () => this._choose({ spoken: field.value }));
    }
    wanted.addEventListener("change", () => this._choose({ [this.isInRoom ? "heard" : "wanted"]: wanted.value }));
    hears.addEventListener("change", () => this._choose({ heard: hears.value }));
  }

  /** Asks the server, now and again and again. */
  async watch() {
    if (!document.hidden) await this.ask();
    setTimeout(() => this.watch(), ASK_AGAIN_MS);
  }

  /** Asks the server once. */
  async ask() {
    try {
      const answer = await fetch("/api/v1/languages");
      this._pairs = (await answer.json()).pairs;
      this.isReached = true;
    } catch {
      this.isReached = false;
    }
    this._settle();
    this.show();
    this._onChange();
  }

  /** Whether there is anything to choose. */
  get isEmpty() { return this._pairs.length === 0; }

  /** Whether the chosen pair is served. */
  get isServed() { return this.serves(this.chosen.spoken, this.chosen.wanted); }

  serves(src, tgt) { return this._pairs.some((pair) => pair.src === src && pair.tgt === tgt); }

  swap() { this._choose({ spoken: this.chosen.wanted, wanted: this.chosen.spoken }); }

  /** Fills the fields; what cannot be had now is grey. */
  show() {
    const { spoken, wanted, heard } = this.chosen;
    const sources = codes(this._pairs.map((pair) => pair.src), spoken);
    const targets = codes(this._pairs.map((pair) => pair.tgt), wanted);
    const all = codes([...sources, ...targets], heard);
    const isSource = (code) => this._pairs.some((pair) => pair.src === code);
    fill(this._fields.spoken, sources, spoken, isSource);
    fill(this._fields.speaks, sources, spoken, isSource);
    if (this.isInRoom) fill(this._fields.wanted, all, heard, () => true);
    else fill(this._fields.wanted, targets, wanted, (code) => this.serves(spoken, code));
    fill(this._fields.hears, all, heard, () => true);
  }

  _choose(choice) {
    // Who speaks another language now hears it, too, unless something else was wanted.
    if (choice.spoken && this.chosen.heard === this.chosen.spoken) this.chosen.heard = choice.spoken;
    Object.assign(this.chosen, choice);
    if (!this.isInRoom && choice.spoken && !this.isServed) this.chosen.wanted = this._firstTarget() ?? this.chosen.wanted;
    for (const [role, name] of Object.entries(REMEMBERED_AS)) remember(name, this.chosen[role]);
    this.show();
    this._onChange(true);
  }

  /** Chooses for people who never chose: their own language, if it is spoken here. */
  _settle() {
    const sources = codes(this._pairs.map((pair) => pair.src));
    const own = navigator.languages.map((tag) => tag.split("-")[0]).find((code) => sources.includes(code));
    this.chosen.spoken ||= own ?? sources[0] ?? "";
    this.chosen.wanted ||= this._firstTarget() ?? "";
    this.chosen.heard ||= this.chosen.spoken;
  }

  _firstTarget() {
    const targets = this._pairs.filter((pair) => pair.src === this.chosen.spoken).map((pair) => pair.tgt);
    return targets.find((code) => code !== this.chosen.spoken) ?? targets[0];
  }
}

function codes(found, chosen = "") {
  const all = new Set(found);
  if (chosen) all.add(chosen);
  return [...all].sort((one, other) => languageName(one).localeCompare(languageName(other), language()));
}

function fill(field, languages, chosen, isServed) {
  const options = languages.map((code) => {
    const name = languageName(code);
    const option = new Option(isServed(code) ? name : t("notNow", { language: name }), code, false, code === chosen);
    option.disabled = !isServed(code);
    return option;
  });
  const said = (option) => `${option.value} ${option.text} ${option.disabled} ${option.selected}`;
  // An open list would close if it were filled again.
  if (options.map(said).join() !== [...field.options].map(said).join()) field.replaceChildren(...options);
  field.disabled = options.length === 0;
}
