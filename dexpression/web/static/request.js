/** Requests that are repeated where this helps: later, with a token, or with a smaller picture. */

import { predict } from "../client.js";
import { describeError, setError } from "./status.js";
import { askForToken, currentToken, keepToken } from "./token.js";

const TIMEOUT_MS = 30_000; // until the server has answered
const LONGEST_PAUSE_MS = 8_000; // between two attempts; the first pause is one second, each further one twice as long
const TOO_LARGE = ["payload_too_large", "too_many_pixels", "too_complex"]; // codes for which a smaller copy can help

// The page that `dexpression page` writes reads pictures itself; that of a server never loads the module for it.
const device = "onDevice" in document.documentElement.dataset ? import("./device.js") : null;
const read = device ? async (...given) => (await device).predict(...given) : askServer;

/**
 * Predict a picture. `copies` are functions that return it, each smaller than the last one.
 *
 * A temporary failure is shown in the status line, `onFailure(error)` is called, and a new copy is sent.
 */
export async function predictWithRetry(copies, signal, { onFailure = () => {}, ...options } = {}) {
  let size = 0;
  for (let attempt = 0; ; attempt += 1) {
    const picture = await copies[size]();
    try {
      return await read(picture, { signal, ...options });
    } catch (error) {
      if (signal.aborted) throw error;
      onFailure(error);
      if (error.code === "unauthorized") await askForToken(signal);
      else if (error.isTemporary) await waitForNextAttempt(error, attempt);
      else if (TOO_LARGE.includes(error.code) && size + 1 < copies.length) size += 1;
      else throw error;
    }
    if (signal.aborted) throw new Error("Another task has started.");
  }
}

async function askServer(picture, { signal, ...options }) {
  const send = (limit) => predict(picture, { signal: limit, token: currentToken(), ...options });
  const reading = await withTimeout(signal, send);
  keepToken();
  return reading;
}

/** Run `request(limit)`; the signal `limit` aborts with `signal`, or when time is up. */
async function withTimeout(signal, request) {
  const limit = new AbortController(); // AbortSignal.any needs browsers of 2024
  const abort = () => limit.abort();
  const timer = setTimeout(abort, TIMEOUT_MS);
  signal.addEventListener("abort", abort);
  try {
    return await request(limit.signal);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", abort);
  }
}

async function waitForNextAttempt(error, attempt) {
  const [reason] = describeError(error);
  setError("temporary", { reason });
  const pause = Math.min(1_000 * 2 ** attempt, LONGEST_PAUSE_MS);
  await new Promise((resolve) => setTimeout(resolve, Math.max(pause, 1_000 * error.retryAfterSeconds)));
}
