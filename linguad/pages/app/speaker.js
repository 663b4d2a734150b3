/**
 * The person who speaks: the microphone and its button.
 *
 * A short press, of the button, the space bar or a finger, listens until the next one, and pauses end sentences; who
 * holds it down speaks until it is let go.
 */

import { Gate } from "./gate.js";
import { isAllowed, Microphone } from "./microphone.js";

const HOLD_MS = 400;
const TAIL = 2; // pieces after letting go: people do so while they say the last word
const KEPT_OPEN_MS = 15_000; // so that the next sentence is not cut at its beginning
const LOUD = 0.15; // of speech; the ring is full then
const WRITES_TEXT = "input, select, textarea, dialog";
const OF_BUTTONS = "button, summary, a";
const PROBLEMS = { NotFoundError: "microphoneMissing", InvalidStateError: "microphoneAsleep" };

export class Speaker {
  constructor({ button, isPlaying, onBegin, onSpeech, onPause, onProblem, onChange }) {
    this.isAllowed = isAllowed();
    this._button = button;
    this._isPlaying = isPlaying;
    this._on = { onBegin, onSpeech, onPause, onProblem, onChange };
    this._mode = "off"; // or opening, held, free
    this._pressedAt = 0;
    this._isPressed = false;
    this._endsIt = false;
    this._isSpeaking = false;
    this._tail = 0;
    this._closing = null;
    this._gate = new Gate();
    this._microphone = new Microphone((samples, loudness) => this._hear(samples, loudness));
    button.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      button.setPointerCapture(event.pointerId);
      this._press();
    });
    for (const end of ["pointerup", "pointercancel"]) button.addEventListener(end, () => this._release());
    // Enter, and the click of a screen reader, come without a pointer.
    button.addEventListener("click", (event) => event.detail === 0 && this._toggle());
    button.addEventListener("contextmenu", (event) => event.preventDefault());
    document.addEventListener("keydown", (event) => this._key(event, () => event.repeat || this._press()));
    document.addEventListener("keyup", (event) => {
      if (event.code !== "Space") return;
      if (event.target === button) event.preventDefault(); // or some browsers would click it as well
      this._release();
    });
    addEventListener("blur", () => this._release());
  }

  /** Whether the microphone is in use. */
  get isOn() { return this._mode !== "off"; }

  /** The key of the text that says what to do now. */
  get hint() {
    if (!this.isAllowed) return "microphoneInsecure";
    if (this._mode === "opening") return "hintOpening";
    if (this._mode === "off") return "hintIdle";
    if (this._isPlaying()) return "hintPlaying";
    if (this._mode === "held") return "hintHeld";
    return this._gate.isOpen ? "hintHears" : "hintFree";
  }

  _key(event, act) {
    if (event.code !== "Space" || event.ctrlKey || event.altKey || event.metaKey || this._button.disabled) return;
    const target = event.target;
    if (target !== this._button && (target.closest(WRITES_TEXT) || target.closest(OF_BUTTONS))) return;
    if (document.querySelector("dialog[open]")) return;
    event.preventDefault();
    act();
  }

  _toggle() {
    this._press();
    this._release();
  }

  _press() {
    if (this._button.disabled) return;
    this._isPressed = true;
    this._pressedAt = performance.now();
    this._endsIt = this.isOn;
    if (!this._endsIt) this._begin();
  }

  _release() {
    if (!this._isPressed) return;
    this._isPressed = false;
    const wasHeld = performance.now() - this._pressedAt > HOLD_MS;
    if (this._endsIt || (wasHeld && this._mode !== "opening")) this._end();
    else if (this._mode === "held") this._become("free");
  }

  async _begin() {
    clearTimeout(this._closing);
    this._tail = 0;
    this._pause();
    this._on.onBegin();
    this._become("opening");
    try {
      await this._microphone.open();
    } catch (error) {
      this._become("off");
      this._on.onProblem(PROBLEMS[error.name] ?? "microphoneDenied");
      return;
    }
    if (this._mode !== "opening") return;
    this._gate.reset();
    this._become(this._isPressed ? "held" : "free");
  }

  _end() {
    if (this._mode === "held") this._tail = TAIL;
    else this._pause();
    this._become("off");
    this._closing = setTimeout(() => this._microphone.close(), KEPT_OPEN_MS);
  }

  _become(mode) {
    this._mode = mode;
    this._button.setAttribute("aria-pressed", mode !== "off");
    if (mode === "off") this._button.style.setProperty("--level", 0);
    this._on.onChange();
  }

  _hear(samples, loudness) {
    if (this._tail > 0) {
      this._on.onSpeech(samples);
      if (--this._tail === 0) this._pause();
    }
    if (!this.isOn || this._mode === "opening") return;
    if (this._isPlaying()) {
      // What comes out of the loudspeaker is not to be translated back.
      this._pause();
      this._gate.reset();
      return;
    }
    this._button.style.setProperty("--level", Math.min(1, loudness / LOUD).toFixed(3));
    const wasOpen = this._gate.isOpen;
    const { send, ends } = this._gate.hear(samples, loudness);
    for (const piece of this._mode === "held" ? [samples] : send) {
      this._isSpeaking = true;
      this._on.onSpeech(piece);
    }
    if (ends && this._mode === "free") this._pause();
    if (wasOpen !== this._gate.isOpen) this._on.onChange();
  }

  _pause() {
    if (this._isSpeaking) this._on.onPause();
    this._isSpeaking = false;
  }
}
