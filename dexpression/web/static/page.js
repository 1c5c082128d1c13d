import { RefusedError, UnreachableError, predict, shrink } from "/client.js";

const RETRY_MS = 1_000; // between two attempts while the server does not answer
const REQUEST_TIMEOUT_MS = 30_000;
const ANNOUNCE_MS = 2_000; // between two readings of the camera in the status line; a screen reader speaks each
const MAX_UNSCALED_BYTES = 10_000_000; // half of what the server allows by default

const stage = document.querySelector("#stage");
const faces = document.querySelector("#faces");
const statusLine = document.querySelector("#status");
const cameraButton = document.querySelector("#camera");
const fileInput = document.querySelector("#file");
const tokenInput = document.querySelector("#token");

let currentTask = new AbortController(); // a new task aborts it
let cameraIsOn = false;
let lastAnnouncement = 0; // time of the last reading in the status line

/** An error that the person can fix; the message says how. */
class UserError extends Error {}

/* The status line. */

function setStatus(text, isError = false) {
  if (statusLine.textContent !== text) statusLine.textContent = text;
  statusLine.classList.toggle("error", isError);
}

const percent = (probability) => `${Math.round(100 * probability)} %`;

function announceReading({ faces: found }) {
  const showsError = statusLine.classList.contains("error");
  if (cameraIsOn && !showsError && performance.now() - lastAnnouncement < ANNOUNCE_MS) return;
  lastAnnouncement = performance.now();
  if (found.length === 0) return setStatus("No face was found.");
  const emotions = found.map((face) => face.result).join(", ");
  setStatus(found.length === 1 ? `One face: ${emotions}.` : `${found.length} faces: ${emotions}.`);
}

/* Boxes on the picture, and the list of faces. */

function createElement(name, className, ...children) {
  const element = document.createElement(name);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

function createBox({ box, result, confidence }, number, image, mirrored) {
  const label = createElement("span", "", `${number} ${result} ${percent(confidence)}`);
  const element = createElement("div", "box", label);
  const left = mirrored ? image.width - box.x - box.width : box.x;
  element.style.left = `${(100 * left) / image.width}%`;
  element.style.top = `${(100 * box.y) / image.height}%`;
  element.style.width = `${(100 * box.width) / image.width}%`;
  element.style.height = `${(100 * box.height) / image.height}%`;
  element.classList.toggle("label-below", box.y < image.height / 10);
  element.classList.toggle("label-right", left > image.width / 2);
  element.ariaHidden = "true"; // the list of faces has the same text
  return element;
}

function createFaceItem(face) {
  const bars = Object.keys(face.probabilities).map((label) => {
    const track = createElement("div", "track", createElement("div"));
    track.ariaHidden = "true";
    return createElement("li", "", createElement("span", "", label), track, createElement("span"));
  });
  return createElement("li", "", createElement("h2"), createElement("ul", "bars", ...bars));
}

function hasLabels(item, face) {
  const shown = [...item.querySelectorAll(".bars li")].map((bar) => bar.firstChild.textContent);
  return shown.join("\n") === Object.keys(face.probabilities).join("\n");
}

/* Items are updated in place, so that a reader or a screen reader keeps its position from frame to frame. */
function updateFaceItem(item, face, number) {
  item.querySelector("h2").textContent = `Face ${number}: ${face.result}, ${percent(face.confidence)}`;
  Object.values(face.probabilities).forEach((probability, index) => {
    const bar = item.querySelectorAll(".bars li")[index];
    bar.querySelector(".track div").style.width = `${100 * probability}%`;
    bar.lastChild.textContent = percent(probability);
  });
}

function showReading(reading, mirrored = false) {
  removeBoxes();
  stage.append(...reading.faces.map((face, index) => createBox(face, index + 1, reading.image, mirrored)));
  while (faces.children.length > reading.faces.length) faces.lastChild.remove();
  reading.faces.forEach((face, index) => {
    if (!faces.children[index]) faces.append(createFaceItem(face));
    if (!hasLabels(faces.children[index], face)) faces.children[index].replaceWith(createFaceItem(face)); // of a new model
    updateFaceItem(faces.children[index], face, index + 1);
  });
  announceReading(reading);
}

function removeBoxes() {
  stage.querySelectorAll(".box").forEach((box) => box.remove());
}

function clearReading() {
  removeBoxes();
  faces.replaceChildren();
}

function showMedia(media) {
  stage.replaceChildren(media);
  stage.hidden = false;
}

/* Tasks. Only one runs at a time: a new one aborts the last one. */

function startTask() {
  currentTask.abort();
  currentTask = new AbortController();
  clearReading();
  stage.hidden = true;
  return currentTask.signal;
}

/** Run `task(signal)` and show its error, unless a newer task has started. */
async function runTask(task) {
  const signal = startTask();
  try {
    await task(signal);
  } catch (error) {
    if (signal.aborted) return;
    startTask();
    if (error.code === "unauthorized") askForToken();
    const isKnown = error instanceof RefusedError || error instanceof UserError;
    setStatus(isKnown ? error.message : "The answer could not be read. Is this a DeXpression server?", true);
  }
}

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

function askForToken() {
  tokenInput.parentElement.hidden = false;
  tokenInput.focus();
}

/** Predict a picture; try again, with a new picture, while the server is unreachable, hangs or answers 503. */
async function predictWithRetry(takePicture, signal, options = {}) {
  for (;;) {
    const picture = await takePicture();
    const limit = AbortSignal.any([signal, AbortSignal.timeout(REQUEST_TIMEOUT_MS)]);
    try {
      return await predict(picture, { signal: limit, token: tokenInput.value, ...options });
    } catch (error) {
      const isUnreachable = error instanceof UnreachableError;
      if (signal.aborted || !(isUnreachable || error.status === 503)) throw error;
      clearReading();
      const reason = isUnreachable ? "does not answer. Is it running?" : "is too busy.";
      setStatus(`The server ${reason} This page tries again until it gets an answer.`, true);
      await pause(RETRY_MS);
    }
  }
}

async function readFile(file, signal) {
  setStatus("Reading the picture …");
  const content = await file.arrayBuffer().catch(() => {
    throw new UserError("This file cannot be read. Is it a folder, or was it moved? Choose another file.");
  });
  const picture = new Blob([content], { type: file.type });
  const image = new Image();
  image.alt = "Your picture";
  image.src = URL.createObjectURL(picture);
  signal.addEventListener("abort", () => URL.revokeObjectURL(image.src));
  if (signal.aborted) return;
  showMedia(image);
  showReading(await predictWithRetry(() => scaleDown(picture, image), signal));
}

/** The picture itself or, if its file is large, a smaller copy: by default the server refuses more than 20 MB. */
async function scaleDown(picture, image) {
  if (picture.size < MAX_UNSCALED_BYTES) return picture;
  return image.decode().then(() => shrink(image, 2560), () => picture);
}

const CAMERA_ERRORS = {
  NotAllowedError: "The camera is blocked. Allow it in the browser's settings for this page, then switch it on again.",
  NotFoundError: "No camera was found. Connect one, or choose a picture.",
  NotReadableError: "Another program uses the camera. Close that program, then switch the camera on again.",
};

async function openCamera(signal) {
  if (!navigator.mediaDevices) {
    throw new UserError("Browsers allow the camera only on localhost and over HTTPS. Open this page as http://localhost, or put the server behind HTTPS.");
  }
  const constraints = { video: { width: 640, height: 480, facingMode: "user" } };
  const stream = await navigator.mediaDevices.getUserMedia(constraints).catch((error) => {
    throw new UserError(CAMERA_ERRORS[error.name] ?? `The camera cannot be used (${error.message}).`);
  });
  const stop = () => stream.getTracks().forEach((track) => track.stop());
  signal.addEventListener("abort", stop);
  if (signal.aborted) stop(); // another task started while the browser asked for permission
  return stream;
}

async function readCamera(signal) {
  setStatus("Opening the camera …");
  setCameraOn(true);
  signal.addEventListener("abort", () => setCameraOn(false));
  const video = document.createElement("video");
  Object.assign(video, { srcObject: await openCamera(signal), muted: true, playsInline: true, ariaLabel: "Your camera" });
  if (signal.aborted) return;
  showMedia(video);
  await video.play();
  while (video.srcObject.active) { // one request at a time: the next frame is sent after the last answer
    showReading(await predictWithRetry(() => shrink(video), signal, { detect: "always" }), true);
    await new Promise(requestAnimationFrame);
    if (signal.aborted) return;
  }
  throw new UserError("The camera was disconnected. Connect it, then switch it on again.");
}

function setCameraOn(on) {
  cameraIsOn = on;
  cameraButton.textContent = on ? "Switch the camera off" : "Switch the camera on";
}

/* Events. */

cameraButton.addEventListener("click", () => {
  if (!cameraIsOn) return runTask(readCamera);
  startTask();
  setStatus("The camera is off.");
});

function readFirstFile([file]) {
  runTask(async (signal) => {
    if (!file) throw new UserError("There is no file to read. Drop, paste or choose a picture.");
    await readFile(file, signal);
  });
}

fileInput.addEventListener("change", () => {
  if (fileInput.files.length) readFirstFile(fileInput.files);
  fileInput.value = ""; // so that the same file can be chosen again
});

document.addEventListener("paste", (event) => readFirstFile(event.clipboardData.files));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
document.addEventListener("dragleave", () => document.body.classList.remove("dropping"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  readFirstFile(event.dataTransfer.files);
});
