/** Asks the server. Looking needs nothing or the cookie; changing something needs the admin token, each time. */

import { t } from "/pages/static/i18n.js";

/** What the server refused; `status` 0 is a server that cannot be reached. */
export class Refused extends Error {
  constructor(status, message, code = "") {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** Only in memory: it is gone with the page. */
let token = "";

/** The JSON of a path; `stale` hears how old it is if that is too old, ms. Throws Refused. */
export function get(path, stale) { return ask("GET", path, undefined, "", stale); }

/** Changes something in an operator's name, who is asked for the admin token first. Null if he would not give it. */
export async function change(method, path, body) {
  for (let wasWrong = false; ; wasWrong = true) {
    const given = token || (await askForToken(wasWrong));
    if (!given) return null;
    try {
      const answer = await ask(method, path, body, given);
      token = given;
      return answer;
    } catch (error) {
      if (error.status !== 401) throw error;
      token = "";
    }
  }
}

/** Exchanges the admin token for the cookie that is good for looking. Throws Refused. */
export function enter(given) { return ask("POST", "/api/v1/viewer", { token: given }); }

/** Asks for the admin token so that everything is shown from then on; whether that went well. Throws Refused. */
export async function unlock() {
  for (let wasWrong = false; ; wasWrong = true) {
    const given = await askForToken(wasWrong);
    if (!given) return false;
    try {
      await enter(given);
      token = given;
      return true;
    } catch (error) {
      if (error.status !== 401) throw error;
    }
  }
}

async function ask(method, path, body, bearer, stale) {
  const headers = { Accept: "application/json" };
  if (bearer) headers.Authorization = `Bearer ${bearer}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, {
      method, headers, body: body === undefined ? undefined : JSON.stringify(body), cache: "no-store",
    });
  } catch {
    throw new Refused(0, t("unreachable"));
  }
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(answer.status, told.error?.message ?? answer.statusText, told.error?.code);
  if (answer.headers.get("X-Snapshot-Stale") === "true") stale?.(Number(answer.headers.get("X-Snapshot-Age-Ms")));
  return told;
}

/** Shows the dialog; the token that was typed, "" if none. */
function askForToken(wasWrong) {
  const dialog = document.getElementById("token");
  const field = document.getElementById("token-field");
  const problem = document.getElementById("token-problem");
  field.value = "";
  problem.hidden = !wasWrong;
  problem.textContent = t("wrongToken");
  let typed = "";
  document.getElementById("token-cancel").onclick = () => dialog.close();
  dialog.querySelector("form").onsubmit = () => { typed = field.value.trim(); };
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      field.value = "";
      resolve(typed);
    }, { once: true });
  });
}
