/** Types of lingua.js. */

export type State = "connecting" | "open" | "reconnecting" | "closed";
export type Chunk = Int16Array | Float32Array | Uint8Array | ArrayBuffer;

export interface Options {
  /** A ticket of `POST /v1/stream/tickets`, or a function that fetches one for each connection. */
  ticket: string | (() => Promise<string>);
  /** Where the API is, if not on this page's own server. */
  url?: string;
  /** Language that is spoken, such as "en", or "auto". */
  from: string;
  /** Language that is wanted. */
  to: string;
  /** "pcm16" (default) or "opus" packets. */
  audioFormat?: "pcm16" | "opus";
  /** Hz; 16000 if left out. */
  sampleRate?: number;
  /** Of the speech in results; "wav" if left out. */
  outputFormat?: "wav" | "ogg_opus" | "pcm16" | "packets";
  partials?: boolean;
  /** Whether speech is wanted beside text. */
  speech?: boolean;
  /** More members of the message `start`, such as mode, lang_a and lang_b. */
  start?: Record<string, unknown>;
}

export interface Result {
  index: number;
  text: string;
  textAsr: string;
  audio: Uint8Array;
  audioFormat: string;
  sampleRate: number;
  durationMs: number;
  language: string | null;
}

export interface Partial {
  index: number;
  text: string;
  isFinal: boolean;
}

export declare class LinguaError extends Error {
  code: string;
  retryable: boolean;
  details?: unknown;
}

export interface Session {
  readonly id: string | null;
  readonly state: State;
  sendAudioChunk(chunk: Chunk): void;
  endUtterance(): void;
  close(): Promise<void>;
  onResult(listener: (result: Result) => void): () => void;
  onPartial(listener: (partial: Partial) => void): () => void;
  onError(listener: (error: LinguaError) => void): () => void;
  onState(listener: (state: State) => void): () => void;
}

export declare function startSession(options: Options): Promise<Session>;
export declare function captureMicrophone(
  onChunk: (chunk: Int16Array) => void,
  constraints?: MediaTrackConstraints,
): Promise<() => Promise<void>>;
export declare function play(result: Result, context?: AudioContext): Promise<void>;
