/** Has an AudioContext run. */

const RESUME_MS = 2_000;

/** Waits until it does; rejects after a while, as browsers leave the wait open where they may make no sound or cannot. */
export async function awake(context) {
  if (context.state === "running") return;
  await Promise.race([context.resume(), new Promise((resolve) => setTimeout(resolve, RESUME_MS))]);
  if (context.state !== "running") throw new DOMException("The browser does not start its sound.", "InvalidStateError");
}
