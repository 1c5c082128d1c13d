/** The status line, which a screen reader speaks, and the messages of errors. */

import { isKnown, write } from "./language.js";

const ANNOUNCE_MS = 2_000; // between two messages about frames; a screen reader speaks each

const line = document.querySelector("#status");

/** An error that the person can fix; `key` is that of its message. */
export class UserError extends Error {
  constructor(key, values = {}) {
    super(key);
    Object.assign(this, { key, values });
  }
}

export function setStatus(key, values) {
  write(line, key, values);
  line.classList.remove("error");
}

export function setError(key, values) {
  write(line, key, values);
  line.classList.add("error");
}

/** Shows messages about frames that follow each other fast; the first one, and an urgent one, at once. */
export class Announcer {
  #last = -ANNOUNCE_MS;

  announce(message, isUrgent) {
    if (!isUrgent && !showsError() && performance.now() - this.#last < ANNOUNCE_MS) return;
    setStatus(...message);
    this.#last = performance.now();
  }
}

export const showsError = () => line.classList.contains("error");

/** The key and the values of the message for an error of `predict`, or of any other function. */
export function describeError(error) {
  if (error instanceof UserError) return [error.key, error.values];
  if (!error.code) return [error.isTemporary ? "unreachable" : "unknown", { detail: error.message }];
  return [isKnown(error.code) ? error.code : "refused", { detail: error.message, status: error.status }];
}
