/** The form for the token of a server that requires one. */

import { recall, remember } from "./memory.js";
import { setError } from "./status.js";

const form = document.querySelector("#token-form");
const input = document.querySelector("#token");

input.value = recall("session", "token") ?? "";
form.addEventListener("submit", (event) => event.preventDefault());

export const currentToken = () => input.value;
export const hideTokenForm = () => (form.hidden = true);

/** Keep a token that the server has accepted, for this tab. */
export function keepToken() {
  if (input.value) remember("session", "token", input.value);
  hideTokenForm();
}

/** Show the form until it is sent or `signal` aborts. */
export async function askForToken(signal) {
  setError(input.value ? "wrongToken" : "unauthorized");
  form.hidden = false;
  input.select();
  await new Promise((resolve) => {
    form.addEventListener("submit", resolve, { once: true });
    signal.addEventListener("abort", resolve, { once: true });
  });
}
