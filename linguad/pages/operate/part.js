/** A part of a page that asks the server by itself, and says what hinders it. */

import { show, t } from "/pages/static/i18n.js";
import { get, unlock } from "./api.js";
import { el, say } from "./dom.js";
import { duration, word } from "./format.js";
import { every } from "./news.js";

/** So near to what is to be seen a part is asked for; a large fleet costs nothing while nobody looks at it. */
const NEAR = "300px";

/**
 * Asks for a path every so many seconds and draws what comes into a section; a path that is a function may change.
 * Parts out of sight wait, unless `always`. `hindered` hears what went wrong. What only operators may see has a button for the token instead. Returns a function that asks at once.
 */
export function asking(section, path, seconds, draw, always = false, hindered = () => {}) {
  const text = el("p");
  const button = tokenButton((problem) => say(text, problem));
  let isDrawn = false;
  const hindrance = el("div", { class: "hindrance", hidden: true }, text, button);
  const old = el("p", { class: "old small", hidden: true });
  section.append(old, hindrance);
  section.classList.add("unasked");
  show(hindrance);
  let seen = always;
  const again = every(seconds, async () => {
    if (!seen) return;
    const asked = typeof path === "function" ? path() : path;
    if (!asked) return;
    try {
      let age = 0;
      const told = await get(asked, (ms) => { age = ms; });
      old.hidden = !age;
      if (age) say(old, t("counted", { time: duration(age) }));
      draw(told);
      isDrawn = true;
      section.classList.remove("unasked");
      hindrance.hidden = true;
      section.classList.remove("hindered");
    } catch (error) {
      if (error.status === undefined) throw error;
      const known = word("problem", error.code);
      say(text, error.status === 401 ? t("operatorsOnly") : known === error.code ? error.message : known);
      button.hidden = error.status !== 401;
      hindrance.hidden = false;
      // What a server told that is away for a moment stays to be read.
      section.classList.toggle("hindered", !(isDrawn && error.status === 0));
      hindered(error);
    }
  });
  if (!always) new IntersectionObserver(([{ isIntersecting }]) => {
    const came = isIntersecting && !seen;
    seen = isIntersecting;
    if (came) again();
  }, { rootMargin: NEAR }).observe(section);
  document.addEventListener("unlocked", again);
  return again;
}

/** A button that asks for the token, so that all parts are shown from then on; `complain` hears why they are not. */
export function tokenButton(complain) {
  return el("button", { type: "button", "data-t": "giveToken", onclick: async () => {
    try {
      if (await unlock()) document.dispatchEvent(new Event("unlocked"));
    } catch (error) {
      complain(error.message);
    }
  } });
}

/** One line of news at the lower edge, for some seconds. */
export function toast(text) {
  const line = document.getElementById("toast");
  line.textContent = text;
  line.classList.add("shown");
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => line.classList.remove("shown"), 5000);
}
