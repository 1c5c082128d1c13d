import { RefusedError, UnreachableError, predict, shrink } from "/client.js";

const RETRY_AFTER = 1_000; // milliseconds, while the server is gone
const PATIENCE = 30_000; // milliseconds, with a server that does not get done
const SPOKEN_EVERY = 2_000; // milliseconds; a screen reader would talk through every frame
const LARGE = 10_000_000; // bytes

const stage = document.querySelector("#stage");
const faces = document.querySelector("#faces");
const statusLine = document.querySelector("#status");
const cameraButton = document.querySelector("#camera");
const fileInput = document.querySelector("#file");
const tokenInput = document.querySelector("#token");

let work = new AbortController(); // of what is shown now; whatever comes next aborts it
let cameraIsOn = false;
let spoken = 0; // when the faces of a frame were last said

/** What the person can mend; the message says how. */
class Trouble extends Error {}

/* What is said. */

function say(text, trouble = false) {
  if (statusLine.textContent !== text) statusLine.textContent = text;
  statusLine.classList.toggle("trouble", trouble);
}

const percent = (share) => `${Math.round(100 * share)} %`;

function sayReading({ faces: found }) {
  const isTrouble = statusLine.classList.contains("trouble");
  if (cameraIsOn && !isTrouble && performance.now() - spoken < SPOKEN_EVERY) return;
  spoken = performance.now();
  if (found.length === 0) return say("No face was found.");
  const emotions = found.map((face) => face.result).join(", ");
  say(found.length === 1 ? `One face: ${emotions}.` : `${found.length} faces: ${emotions}.`);
}

/* What is drawn. */

function element(name, className, ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

function drawBox({ box, result, confidence }, number, image, mirrored) {
  const made = element("div", "box", element("span", "", `${number} ${result} ${percent(confidence)}`));
  const left = mirrored ? image.width - box.x - box.width : box.x;
  made.style.left = `${(100 * left) / image.width}%`;
  made.style.top = `${(100 * box.y) / image.height}%`;
  made.style.width = `${(100 * box.width) / image.width}%`;
  made.style.height = `${(100 * box.height) / image.height}%`;
  made.classList.toggle("low", box.y < image.height / 10);
  made.classList.toggle("right", left > image.width / 2);
  made.ariaHidden = "true"; // the list beside it says the same
  return made;
}

function drawFace(face) {
  const bars = Object.keys(face.probabilities).map((label) => {
    const track = element("div", "track", element("div"));
    track.ariaHidden = "true";
    return element("li", "", element("span", "", label), track, element("span"));
  });
  return element("li", "", element("h2"), element("ul", "bars", ...bars));
}

/* In place, so that who reads along, by eye or by ear, does not lose the line with every frame. */
function fillFace(item, face, number) {
  item.querySelector("h2").textContent = `Face ${number}: ${face.result}, ${percent(face.confidence)}`;
  Object.values(face.probabilities).forEach((share, index) => {
    const bar = item.querySelectorAll(".bars li")[index];
    bar.querySelector(".track div").style.width = `${100 * share}%`;
    bar.lastChild.textContent = percent(share);
  });
}

function show(reading, mirrored = false) {
  removeBoxes();
  stage.append(...reading.faces.map((face, index) => drawBox(face, index + 1, reading.image, mirrored)));
  while (faces.children.length > reading.faces.length) faces.lastChild.remove();
  reading.faces.forEach((face, index) => {
    if (!faces.children[index]) faces.append(drawFace(face));
    fillFace(faces.children[index], face, index + 1);
  });
  sayReading(reading);
}

function removeBoxes() {
  stage.querySelectorAll(".box").forEach((box) => box.remove());
}

function clear() {
  removeBoxes();
  faces.replaceChildren();
}

function put(media) {
  stage.replaceChildren(media);
  stage.hidden = false;
}

/* What is done. One thing at a time: whatever begins ends what was shown or waited for before. */

function begin() {
  work.abort();
  work = new AbortController();
  clear();
  stage.hidden = true;
  return work.signal;
}

/** Say what went wrong, unless something newer has begun. */
async function attempt(piece) {
  const signal = begin();
  try {
    await piece(signal);
  } catch (error) {
    if (signal.aborted) return;
    begin();
    if (error.code === "unauthorized") askForToken();
    const isKnown = error instanceof RefusedError || error instanceof Trouble;
    say(isKnown ? error.message : "The answer could not be read. Is this server a DeXpression?", true);
  }
}

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

function askForToken() {
  tokenInput.parentElement.hidden = false;
  tokenInput.focus();
}

/** What the server answers; one that is gone, hangs or has too much to do is asked again until it answers. */
async function ask(takePicture, signal, options = {}) {
  for (;;) {
    const picture = await takePicture();
    const limit = AbortSignal.any([signal, AbortSignal.timeout(PATIENCE)]);
    try {
      return await predict(picture, { signal: limit, token: tokenInput.value, ...options });
    } catch (error) {
      const isGone = error instanceof UnreachableError;
      if (signal.aborted || !(isGone || error.status === 503)) throw error;
      clear();
      const reason = isGone ? "does not answer. Is it running?" : "has too much to do.";
      say(`The server ${reason} This page asks again until it answers.`, true);
      await pause(RETRY_AFTER);
    }
  }
}

async function readFile(file, signal) {
  say("Reading …");
  const content = await file.arrayBuffer().catch(() => {
    throw new Trouble("This file cannot be read. Is it a folder, or has it been moved?");
  });
  const picture = new Blob([content], { type: file.type });
  const image = new Image();
  image.alt = "The picture that was read";
  image.src = URL.createObjectURL(picture);
  signal.addEventListener("abort", () => URL.revokeObjectURL(image.src));
  if (signal.aborted) return;
  put(image);
  show(await ask(() => fit(picture, image), signal));
}

/** The picture as it is; a very large one is shrunk, for the server takes no more than 20 MB unless it is told to. */
async function fit(picture, image) {
  if (picture.size < LARGE) return picture;
  return image.decode().then(() => shrink(image, 2560), () => picture);
}

const CAMERA_TROUBLES = {
  NotAllowedError: "The camera was refused. Allow it in the browser's settings of this page, then switch it on again.",
  NotFoundError: "No camera was found. Plug one in, or choose a picture.",
  NotReadableError: "The camera is in use by another program. Close that, then switch it on again.",
};

async function openCamera(signal) {
  if (!navigator.mediaDevices) {
    throw new Trouble("Browsers give the camera to localhost and to HTTPS alone. Open this page as http://localhost, or put the server behind HTTPS.");
  }
  const wanted = { video: { width: 640, height: 480, facingMode: "user" } };
  const stream = await navigator.mediaDevices.getUserMedia(wanted).catch((error) => {
    throw new Trouble(CAMERA_TROUBLES[error.name] ?? `The camera cannot be used (${error.message}).`);
  });
  const stop = () => stream.getTracks().forEach((track) => track.stop());
  signal.addEventListener("abort", stop);
  if (signal.aborted) stop(); // something else was begun while the browser asked
  return stream;
}

async function readCamera(signal) {
  say("Asking for the camera …");
  showCamera(true);
  signal.addEventListener("abort", () => showCamera(false));
  const video = document.createElement("video");
  Object.assign(video, { srcObject: await openCamera(signal), muted: true, playsInline: true, ariaLabel: "Your camera" });
  if (signal.aborted) return;
  put(video);
  await video.play();
  while (video.srcObject.active) { // the next frame leaves when the answer to the last is there
    show(await ask(() => shrink(video), signal, { detect: "always" }), true);
    await new Promise(requestAnimationFrame);
    if (signal.aborted) return;
  }
  throw new Trouble("The camera is gone. Plug it in, then switch it on again.");
}

function showCamera(on) {
  cameraIsOn = on;
  cameraButton.textContent = on ? "Switch the camera off" : "Switch the camera on";
}

/* What people do. */

cameraButton.addEventListener("click", () => {
  if (!cameraIsOn) return attempt(readCamera);
  begin();
  say("The camera is off.");
});

function readFirst([file]) {
  attempt(async (signal) => {
    if (!file) throw new Trouble("That was no file. Drop, paste or choose a picture.");
    await readFile(file, signal);
  });
}

fileInput.addEventListener("change", () => {
  if (fileInput.files.length) readFirst(fileInput.files);
  fileInput.value = ""; // so that the same file can be chosen again
});

document.addEventListener("paste", (event) => readFirst(event.clipboardData.files));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
document.addEventListener("dragleave", () => document.body.classList.remove("dropping"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  readFirst(event.dataTransfer.files);
});
