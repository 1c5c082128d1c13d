/**
 * Client of a DeXpression server, for any web page:
 *
 *     import { predict } from "http://localhost:9874/client.js";
 *     const reading = await predict(fileInput.files[0]);
 *     console.log(reading.result, reading.faces);
 */

/** The server refused the request. `code` is stable; the message says how to fix the request. */
export class RefusedError extends Error {
  constructor(problem) {
    super(problem.detail);
    this.code = problem.code;
    this.status = problem.status;
  }
}

/** The request got no response: the server does not run, or the network failed. */
export class UnreachableError extends Error {}

/**
 * Send a picture to POST /v1/predict and return its reading: every face, largest first, and the emotion on each.
 *
 * `picture` is a Blob or a File. `server` is the server's address, by default that of this module. `token` is sent if
 * the server requires one. `signal` is an AbortSignal. All other options are query parameters: labels, detect,
 * min_confidence. Throws RefusedError or UnreachableError, or SyntaxError if the response is not JSON.
 */
export async function predict(picture, { server = import.meta.url, token, signal, ...parameters } = {}) {
  const address = new URL("/v1/predict", server);
  address.search = new URLSearchParams(parameters);
  const form = new FormData();
  form.append("file", picture, "picture");
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  let response;
  try {
    response = await fetch(address, { method: "POST", body: form, headers, signal });
  } catch (error) {
    throw new UnreachableError("The server does not answer.", { cause: error });
  }
  const body = await response.json();
  if (!response.ok) throw new RefusedError(body);
  return body;
}

/** Copy an image, a canvas or the current frame of a video into a JPEG Blob of at most `maxSide` pixels a side. */
export async function shrink(source, maxSide = 640) {
  const width = source.videoWidth ?? source.naturalWidth ?? source.width;
  const height = source.videoHeight ?? source.naturalHeight ?? source.height;
  const scale = Math.min(1, maxSide / Math.max(width, height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  canvas.getContext("2d").drawImage(source, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.85));
}
