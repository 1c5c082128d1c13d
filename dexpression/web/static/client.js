/**
 * Client of a DeXpression server, for any web page:
 *
 *     import { predict } from "http://localhost:9874/client.js";
 *     const reading = await predict(fileInput.files[0]);
 *     console.log(reading.result, reading.faces);
 *
 * `Tracker` follows the faces of a camera or a film from frame to frame.
 */

export { Tracker } from "./static/tracks.js";

/**
 * The server, or a proxy in front of it, refused the request. `code` is stable; the message says how to fix the request.
 *
 * If `isTemporary` is true, the same request can succeed later, after `retryAfterSeconds` if that is not 0.
 */
export class RefusedError extends Error {
  constructor({ code, status, detail }, retryAfterSeconds = 0) {
    super(detail);
    this.code = code;
    this.status = status;
    this.isTemporary = [429, 502, 503, 504].includes(status);
    this.retryAfterSeconds = retryAfterSeconds;
  }
}

/** The request got no response: the server does not run, or the network failed. */
export class UnreachableError extends Error {
  isTemporary = true;
  retryAfterSeconds = 0;
}

// Codes and messages of answers that are not DeXpression's own, but those of a proxy in front of it.
const PROXY_PROBLEMS = {
  413: ["payload_too_large", "The picture is larger than a proxy in front of the server allows. Scale it down, or raise the proxy's limit."],
  429: ["too_many_requests", "A proxy in front of the server allows no more requests now. Send the picture again later."],
  502: ["bad_gateway", "A proxy gets no answer from the server behind it. Start that server, then send the picture again."],
  503: ["service_unavailable", "The server is not available now. Send the picture again later."],
  504: ["gateway_timeout", "The server did not answer its proxy in time. Send the picture again later."],
};

/**
 * Send a picture to POST /v1/predict and return its reading: every face, largest first, and the emotion on each.
 *
 * `picture` is a Blob or a File. `server` is the server's address, with the path below which a proxy serves it; by
 * default it is that of this module. `token` is sent if the server requires one. `signal` is an AbortSignal. All other
 * options are query parameters: labels, reading, detect, min_confidence, explain. Throws RefusedError or UnreachableError.
 */
export async function predict(picture, { server = new URL(".", import.meta.url), token, signal, ...parameters } = {}) {
  const address = new URL(server);
  address.pathname = `${address.pathname.replace(/\/+$/, "")}/v1/predict`;
  address.search = new URLSearchParams(parameters);
  const body = new FormData();
  body.append("file", picture, "picture");
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const { response, content } = await exchange(address, { method: "POST", body, headers, signal });
  if (response.ok && Array.isArray(content?.faces)) return content;
  const isOwn = !response.ok && content?.code && content?.detail;
  throw new RefusedError(isOwn ? { ...content, status: response.status } : describeOther(response), retryAfter(response));
}

/** The response and its JSON; `content` is undefined if it is not JSON. */
async function exchange(address, options) {
  let response, text;
  try {
    response = await fetch(address, options);
    text = await response.text();
  } catch (error) {
    throw new UnreachableError("The server does not answer.", { cause: error });
  }
  try {
    return { response, content: JSON.parse(text) };
  } catch {
    return { response };
  }
}

/** The problem of a response that does not come from a DeXpression server. */
function describeOther({ status, ok }) {
  const other = ok
    ? ["unreadable_answer", "Another program than DeXpression answers at this address, perhaps a sign-in page. Check the address."]
    : [`http_${status}`, `The server, or a proxy in front of it, answered ${status}. Check the address, or ask the operator.`];
  const [code, detail] = PROXY_PROBLEMS[status] ?? other;
  return { code, status, detail };
}

/** The seconds in the header Retry-After, which has a number or a date; 0 without it. */
function retryAfter(response) {
  const value = response.headers.get("Retry-After") ?? "0";
  const seconds = /^\d+$/.test(value) ? Number(value) : (Date.parse(value) - Date.now()) / 1000;
  return Math.max(0, seconds || 0);
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
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.85));
  if (!blob) throw new Error("The browser cannot make a JPEG of this picture.");
  return blob;
}
