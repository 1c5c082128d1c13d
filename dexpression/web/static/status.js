/** The status line, which a screen reader speaks, and the messages of errors. */

import { isKnown, write } from "./language.js";

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

export const showsError = () => line.classList.contains("error");

/** The key and the values of the message for an error of `predict`, or of any other function. */
export function describeError(error) {
  if (error instanceof UserError) return [error.key, error.values];
  if (!error.code) return [error.isTemporary ? "unreachable" : "unknown", { detail: error.message }];
  return [isKnown(error.code) ? error.code : "refused", { detail: error.message, status: error.status }];
}
