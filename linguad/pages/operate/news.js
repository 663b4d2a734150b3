/** What is new: the overview by server push, everything else by asking again; both can be paused. */

import { get } from "./api.js";

/** Without an event for so long the numbers are old, ms; one comes every second. */
const OLD_AFTER = 5000;
/** After the server ended the stream for good, ms. */
const AGAIN_AFTER = 5000;

const listeners = new Set();
const states = new Set();
const tasks = new Set();

let source = null;
let heardAt = 0;
let paused = false;
let state = "connecting";

/** The last overview; undefined before the first one. */
export let overview;

/** Calls a listener with each overview, the last one at once. */
export function follow(listener) {
  listeners.add(listener);
  if (overview) listener(overview);
}

/** Calls a listener with `connecting`, `live`, `old` or `paused`, now and when it changes. */
export function onState(listener) {
  states.add(listener);
  listener(state);
}

/** Runs a task now and every so many seconds, while somebody looks. Returns a function that runs it at once. */
export function every(seconds, task) {
  const one = { task, seconds, at: 0, running: false };
  tasks.add(one);
  run(one);
  return () => run(one);
}

/** Stops and goes on. */
export function setPaused(wanted) {
  paused = wanted;
  if (paused) {
    close();
    change("paused");
  } else {
    change("connecting");
    open();
    for (const one of tasks) run(one);
  }
}

/** Begins. Nobody looks at a hidden page, so it costs the server nothing. */
export function start() {
  open();
  setInterval(look, 1000);
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) close();
    else if (!paused) {
      open();
      look();
    }
  });
}

function open() {
  if (source || document.hidden) return;
  heardAt = Date.now();
  source = new EventSource("/api/v1/live");
  source.addEventListener("overview", (event) => {
    heardAt = Date.now();
    overview = JSON.parse(event.data);
    change("live");
    for (const listener of listeners) listener(overview);
  });
  source.addEventListener("error", () => {
    if (source?.readyState !== EventSource.CLOSED) return; // it tries again by itself
    close();
    setTimeout(async () => {
      // Who may not look any more gets the page that says so.
      const refused = await get("/api/v1/history?minutes=1").then(() => 0, (error) => error.status);
      if (refused === 401) location.reload();
      else if (!paused) open();
    }, AGAIN_AFTER);
  });
}

function close() {
  source?.close();
  source = null;
}

function look() {
  if (paused || document.hidden) return;
  if (Date.now() - heardAt > OLD_AFTER) change("old");
  for (const one of tasks) if (Date.now() - one.at >= one.seconds * 1000) run(one);
}

async function run(one) {
  if (one.running) return;
  one.running = true;
  one.at = Date.now();
  try {
    await one.task();
  } finally {
    one.running = false;
  }
}

function change(now) {
  if (now === state) return;
  state = now;
  for (const listener of states) listener(state);
}
