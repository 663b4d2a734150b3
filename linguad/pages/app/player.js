/** Plays the speech of results, one after the other. */

import { oggOfPackets } from "./ogg.js";

const RATE = 16_000; // of PCM16

export class Player {
  /** `onStart` and `onEnd` get what is played. */
  constructor({ onStart, onEnd, onError }) {
    this._on = { onStart, onEnd, onError };
    this._context = null;
    this._waiting = [];
    this._source = null;
    this.current = null;
  }

  /** Makes sound possible; browsers want a gesture of the user for that. */
  unlock() {
    this._context ??= new AudioContext();
    if (this._context.state === "suspended") this._context.resume();
  }

  /** Plays a clip, `{ audio, format }` with bytes as base64, after those before it. */
  play(clip) {
    this._waiting.push(clip);
    if (!this.current) this._next();
  }

  /** Falls silent, and forgets what waits. */
  stop() {
    this._waiting = [];
    if (this.current) this.current = { ...this.current, isStopped: true };
    this._source?.stop();
  }

  async _next() {
    const clip = this._waiting.shift();
    if (!clip) return;
    this.current = clip;
    let started = false;
    try {
      this.unlock();
      const buffer = await decode(this._context, clip);
      if (this._context.state !== "running") await this._context.resume();
      if (this.current.isStopped) return;
      started = true;
      this._on.onStart(clip);
      await this._sound(buffer);
    } catch (error) {
      this._on.onError(error);
    } finally {
      this.current = this._source = null;
      if (started) this._on.onEnd(clip);
      this._next();
    }
  }

  _sound(buffer) {
    return new Promise((resolve) => {
      const source = this._context.createBufferSource();
      this._source = source;
      source.buffer = buffer;
      source.connect(this._context.destination);
      source.onended = resolve;
      source.start();
    });
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
