/** Plays the speech of results, one after the other. */

import { awake } from "./awake.js";
import { oggOfPackets } from "./ogg.js";

const RATE = 16_000; // of PCM16
const STOPPED = {};

export class Player {
  /** `onStart` and `onEnd` get what is played. */
  constructor({ onStart, onEnd, onError }) {
    this._on = { onStart, onEnd, onError };
    this._context = null;
    this._waiting = [];
    this._current = null;
    this._silence = null;
  }

  /** Whether speech is to be heard now. */
  get isPlaying() { return this._silence !== null; }

  /** Makes sound possible; browsers want a gesture of the user for that. */
  unlock() {
    this._context ??= new AudioContext();
    if (this._context.state === "suspended") this._context.resume();
  }

  /** Plays a clip, `{ audio, format }` with bytes as base64, after those before it. */
  play(clip) {
    this._waiting.push(clip);
    if (!this._current) this._next();
  }

  /** Falls silent, and forgets what waits. */
  stop() {
    this._waiting = [];
    if (this._current) this._current = STOPPED;
    this._silence?.();
  }

  async _next() {
    const clip = this._waiting.shift();
    if (!clip) return;
    this._current = clip;
    try {
      this.unlock();
      const buffer = await decode(this._context, clip);
      await awake(this._context);
      if (this._current !== STOPPED) await this._sound(clip, buffer);
    } catch (error) {
      this._on.onError(error);
    } finally {
      this._current = null;
      this._next();
    }
  }

  async _sound(clip, buffer) {
    const source = this._context.createBufferSource();
    source.buffer = buffer;
    source.connect(this._context.destination);
    const over = new Promise((resolve) => {
      this._silence = resolve;
      source.onended = resolve;
    });
    source.start();
    this._on.onStart(clip);
    await over;
    source.stop();
    this._silence = null;
    this._on.onEnd(clip);
  }
}

async function decode(context, { audio, format }) {
  const bytes = Uint8Array.from(atob(audio), (letter) => letter.charCodeAt(0));
  if (format === "opus") return context.decodeAudioData(await oggOfPackets(bytes).arrayBuffer());
  if (format === "wav") return context.decodeAudioData(bytes.buffer);
  const samples = new Int16Array(bytes.buffer, 0, bytes.length >> 1);
  const buffer = context.createBuffer(1, Math.max(samples.length, 1), RATE);
  buffer.getChannelData(0).set(Float32Array.from(samples, (sample) => sample / 32768));
  return buffer;
}
