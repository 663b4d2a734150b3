/**
 * The language of the pages: chosen by the browser's settings, or by the switch, which is remembered.
 *
 *   import { addTexts, t } from "/pages/static/i18n.js";
 *   addTexts({ en: { hello: "Hello, {name}" }, zh: { hello: "{name}，你好" } });
 *   t("hello", { name: "Mina" });
 *
 * In HTML, `data-t="hello"` gives an element its text, `data-t-label`, `data-t-title` and `data-t-placeholder`
 * its attributes, and a button with `data-language-switch` switches. Texts are only ever set as text.
 */

export const LANGUAGES = { en: "English", zh: "中文" };

const REMEMBERED_AS = "linguad.language";
const ATTRIBUTES = { label: "aria-label", title: "title", placeholder: "placeholder" };

const texts = Object.fromEntries(Object.keys(LANGUAGES).map((code) => [code, {}]));
const listeners = new Set();
let current = known(remembered(REMEMBERED_AS, "")) ?? wanted();

/** The language of the page now. */
export function language() { return current; }

/** Takes texts of a page, one dictionary for each language, and shows them. */
export function addTexts(dictionaries) {
  for (const code in texts) Object.assign(texts[code], dictionaries[code]);
  show();
}

/** A text in the language of the page, with the values put in for `{name}`. */
export function t(key, values = {}) {
  const text = texts[current][key] ?? texts.en[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (hole, name) => values[name] ?? hole);
}

/** Switches the page to a language, for this visit and the next. */
export function setLanguage(code) {
  current = code;
  remember(REMEMBERED_AS, code);
  show();
  for (const listener of listeners) listener(code);
}

/** Calls a listener after every switch. */
export function onLanguage(listener) { listeners.add(listener); }

/** The name of a spoken language, such as "es", for people who read the page. */
export function languageName(code, reader = current) {
  try {
    return new Intl.DisplayNames([reader], { type: "language" }).of(code) ?? code;
  } catch {
    return code; // a node may offer what no standard knows
  }
}

/** Fills in the texts of an element and all below it. */
export function show(root = document) {
  document.documentElement.lang = current === "zh" ? "zh-CN" : current;
  for (const element of root.querySelectorAll("[data-t]")) element.textContent = t(element.dataset.t);
  for (const [name, attribute] of Object.entries(ATTRIBUTES)) {
    for (const element of root.querySelectorAll(`[data-t-${name}]`)) {
      element.setAttribute(attribute, t(element.getAttribute(`data-t-${name}`)));
    }
  }
  for (const button of root.querySelectorAll("[data-language-switch]")) {
    const other = next();
    button.textContent = LANGUAGES[other];
    button.lang = other;
    button.onclick = () => setLanguage(next());
  }
}

/** What was remembered under a name; browsers may forbid to remember anything. */
export function remembered(name, otherwise) {
  try {
    return localStorage.getItem(name) ?? otherwise;
  } catch {
    return otherwise;
  }
}

/** Remembers a text under a name, where that is allowed. */
export function remember(name, value) {
  try {
    localStorage.setItem(name, value);
  } catch {
    // then it holds for this visit
  }
}

function known(code) { return code in LANGUAGES ? code : undefined; }

function next() {
  const codes = Object.keys(LANGUAGES);
  return codes[(codes.indexOf(current) + 1) % codes.length];
}

function wanted() {
  const spoken = navigator.languages.map((tag) => tag.split("-")[0].toLowerCase());
  return spoken.find((code) => code in LANGUAGES) ?? "en";
}
