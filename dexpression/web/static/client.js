/**
 * Talk to a DeXpression server from any web page:
 *
 *     import { predict } from "http://localhost:9874/client.js";
 *     const reading = await predict(fileInput.files[0]);
 *     console.log(reading.result, reading.faces);
 */

/** The server refused a picture; `code` is stable, the message says how to mend it. */
export class RefusedError extends Error {
  constructor(problem) {
    super(problem.detail);
    this.code = problem.code;
    this.status = problem.status;
  }
}

/** No answer came: the server is gone, or the network is. */
export class UnreachableError extends Error {}

/**
 * Every face of a picture, largest first, and the emotion on each: what POST /v1/predict answers.
 *
 * `picture` is a Blob or a File. `options` are the query's: labels, detect, min_confidence; and `server`, the address
 * that this module came from unless given, `token`, where the server wants one, and `signal`, an AbortSignal.
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

/** What an image, a video or a canvas shows now, as a JPEG whose long side is at most `longest` pixels. */
export async function shrink(source, longest = 640) {
  const width = source.videoWidth ?? source.naturalWidth ?? source.width;
  const height = source.videoHeight ?? source.naturalHeight ?? source.height;
  const scale = Math.min(1, longest / Math.max(width, height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  canvas.getContext("2d").drawImage(source, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.85));
}
