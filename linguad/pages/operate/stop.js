/** Lets this instance end: a button, and before anything happens a dialog that says what will. */

import { t } from "/pages/static/i18n.js";
import { change } from "./api.js";
import { el, say } from "./dom.js";
import { count, duration, number } from "./format.js";
import { follow, overview } from "./news.js";
import { toast } from "./part.js";

/** Whether an overview says that the instance ends. */
export function isEnding({ state }) { return state.reasons.includes("draining"); }

/** What is left to be done before it ends. */
export function left({ facts, instance }) {
  return {
    jobs: count("jobs", facts.open_jobs), sessions: count("sessions", facts.sessions), seconds: duration(instance.drain_seconds * 1000),
  };
}

/** A button for it, where nothing ends yet. */
export function stopButton() {
  const button = el("button", { type: "button", class: "small danger", "data-t": "stop", onclick: ask });
  follow((told) => { button.hidden = isEnding(told); });
  return button;
}

function ask() {
  const dialog = document.getElementById("stop");
  draw();
  dialog.returnValue = "";
  dialog.addEventListener("close", () => { if (dialog.returnValue) stop(); }, { once: true });
  dialog.showModal();
}

/** While somebody thinks about it, the numbers go on. */
follow(() => { if (document.getElementById("stop").open) draw(); });

function draw() {
  const { id, others } = overview.instance;
  say(document.getElementById("stop-title"), t("stopTitle", { instance: id ?? t("thisInstance") }));
  const lines = [
    t("stopWork", left(overview)),
    others ? t(others === 1 ? "stopOther" : "stopOthers", { count: number(others) }) : t("stopAlone"),
    t("stopAgain"),
  ];
  for (const [at, line] of [...document.getElementById("stop-what").children].entries()) say(line, lines[at]);
}

async function stop() {
  try {
    const told = await change("POST", "/api/v1/drain");
    if (told) toast(t("stopBegan"));
  } catch (error) {
    toast(error.message);
  }
}
