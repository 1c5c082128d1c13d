/** Pictures from files: one element that shows it, and copies of it for the server. */

import { shrink } from "../client.js";
import { UserError } from "./status.js";

// By default the server refuses more than 20 MB or 50 megapixels. What is larger than this is sent as a smaller copy.
const MAX_BYTES = 10_000_000;
const MAX_PIXELS = 40_000_000;
const READ_BY_SERVER = /^image\/(jpeg|png|webp|bmp|gif)$/; // of others that the browser can show, it makes a JPEG
const SMALLER_SIDES = [2560, 1280, 640];

/** Read a file: `image` is an element, `copies` are functions that return it or, if the browser can show it, less. */
export async function openPicture(file, signal) {
  const content = await file.arrayBuffer().catch(() => {
    throw new UserError("unreadableFile");
  });
  const original = new Blob([content], { type: file.type });
  const image = new Image();
  image.alt = file.name;
  const loading = new Promise((resolve) => {
    image.addEventListener("load", () => resolve(true));
    image.addEventListener("error", () => resolve(false));
  });
  image.src = URL.createObjectURL(original);
  signal.addEventListener("abort", () => URL.revokeObjectURL(image.src));
  const isShown = await loading;
  if (!isShown) return { image: null, copies: [() => original] };
  const smaller = SMALLER_SIDES.map((side) => () => shrink(image, side));
  return { image, copies: isSentAsItIs(original, image) ? [() => original, ...smaller] : smaller };
}

function isSentAsItIs({ size, type }, { naturalWidth, naturalHeight }) {
  return size < MAX_BYTES && naturalWidth * naturalHeight <= MAX_PIXELS && (READ_BY_SERVER.test(type) || !type);
}
