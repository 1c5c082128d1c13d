/** What the browser keeps for this page: "local" for good, "session" for the tab. If it forbids that, nothing is kept. */

export function recall(kind, key) {
  try {
    return window[`${kind}Storage`].getItem(`dexpression-${key}`);
  } catch {
    return null;
  }
}

export function remember(kind, key, value) {
  try {
    window[`${kind}Storage`].setItem(`dexpression-${key}`, value);
  } catch {
    // The page works without it.
  }
}
