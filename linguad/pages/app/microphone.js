/** The microphone, by AudioWorklet. */

import { awake } from "./awake.js";

const COLLECTOR = new URL("./collector.js", import.meta.url);
const WANTED = { echoCancellation: true, noiseSuppression: true, autoGainControl: true, channelCount: 1 };

/** Whether browsers give the microphone to a page from this address at all. */
export function isAllowed() { return isSecureContext && !!navigator.mediaDevices && !!globalThis.AudioWorkletNode; }

export class Microphone {
  /** `onPiece` gets 100 ms of samples and their loudness, again and again. */
  constructor(onPiece) {
    this._onPiece = onPiece;
    this._opening = null;
  }

  /** Opens it, if it is not open; rejects with the browser's error. */
  open() {
    this._opening ??= this._open().catch((error) => {
      this._opening = null;
      throw error;
    });
    return this._opening;
  }

  /** Gives it back to the browser. */
  async close() {
    const opening = this._opening;
    this._opening = null;
    const opened = await opening?.catch(() => null);
    if (opened) await close(opened);
  }

  async _open() {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: WANTED });
    const { context, source } = connect(stream);
    try {
      await context.audioWorklet.addModule(COLLECTOR);
      await awake(context);
    } catch (error) {
      await close({ stream, context });
      throw error;
    }
    const collector = new AudioWorkletNode(context, "collector", { numberOfOutputs: 0 });
    collector.port.onmessage = ({ data }) => this._onPiece(data.samples, data.loudness);
    source.connect(collector);
    return { stream, context };
  }
}

async function close({ stream, context }) {
  stream.getTracks().forEach((track) => track.stop());
  await context.close();
}

/** The stream in a context of 16 kHz, or, where a browser refuses that, in one of its own rate. */
function connect(stream) {
  for (const options of [{ sampleRate: 16_000 }, {}]) {
    const context = new AudioContext(options);
    try {
      return { context, source: context.createMediaStreamSource(stream) };
    } catch (error) {
      context.close();
      if (error.name !== "NotSupportedError") throw error;
    }
  }
  throw new DOMException("No context takes the microphone.", "NotSupportedError");
}
