import { RefusedError, UnreachableError, predict, shrink } from "/client.js";

const RETRY_AFTER = 1000; // milliseconds, while the server is gone

const stage = document.querySelector("#stage");
const faces = document.querySelector("#faces");
const statusLine = document.querySelector("#status");
const cameraButton = document.querySelector("#camera");
const fileInput = document.querySelector("#file");

let work = new AbortController(); // of what is shown now; whatever comes next aborts it

/* What is said. Only what has changed, or a screen reader would talk through every frame. */

function say(text, trouble = false) {
  if (statusLine.textContent !== text) statusLine.textContent = text;
  statusLine.classList.toggle("trouble", trouble);
}

const percent = (share) => `${Math.round(100 * share)} %`;

function sayReading({ faces: found }) {
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

function drawFace(face, number) {
  const bars = Object.entries(face.probabilities).map(([label, share]) => {
    const bar = element("div");
    bar.style.width = `${100 * share}%`;
    const track = element("div", "track", bar);
    track.ariaHidden = "true";
    return element("li", "", element("span", "", label), track, element("span", "", percent(share)));
  });
  const title = element("h2", "", `Face ${number}: ${face.result}, ${percent(face.confidence)}`);
  return element("li", "", title, element("ul", "bars", ...bars));
}

function show(reading, mirrored = false) {
  clear();
  stage.append(...reading.faces.map((face, index) => drawBox(face, index + 1, reading.image, mirrored)));
  faces.append(...reading.faces.map((face, index) => drawFace(face, index + 1)));
  sayReading(reading);
}

function clear() {
  stage.querySelectorAll(".box").forEach((box) => box.remove());
  faces.replaceChildren();
}

function begin(media) {
  work.abort();
  work = new AbortController();
  clear();
  stage.replaceChildren(media);
  stage.hidden = false;
  return work.signal;
}

/* What is asked. A server that is gone is asked again until it is back. */

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

async function ask(picture, signal, options = {}) {
  while (!signal.aborted) {
    try {
      return await predict(await picture(), { signal, ...options });
    } catch (error) {
      if (signal.aborted) return null;
      if (!(error instanceof UnreachableError)) throw error;
      say("The server does not answer. Is it running? This page asks again until it is.", true);
      await pause(RETRY_AFTER);
    }
  }
  return null;
}

async function readFile(file) {
  const image = new Image();
  image.alt = "The picture that was read";
  image.src = URL.createObjectURL(file);
  const signal = begin(image);
  signal.addEventListener("abort", () => URL.revokeObjectURL(image.src));
  say("Reading …");
  try {
    const reading = await ask(() => file, signal);
    if (reading) show(reading);
  } catch (error) {
    stage.hidden = true;
    say(error instanceof RefusedError ? error.message : "The answer could not be read. Is this server a DeXpression?", true);
  }
}

const CAMERA_TROUBLES = {
  NotAllowedError: "The camera was refused. Allow it in the browser's settings of this page, then switch it on again.",
  NotFoundError: "No camera was found. Plug one in, or choose a picture.",
  NotReadableError: "The camera is in use by another program. Close that, then switch it on again.",
};

async function openCamera() {
  if (!navigator.mediaDevices) {
    throw new Error("Browsers give the camera to localhost and to HTTPS alone. Open this page as http://localhost, or put the server behind HTTPS.");
  }
  try {
    return await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 480, facingMode: "user" } });
  } catch (error) {
    throw new Error(CAMERA_TROUBLES[error.name] ?? `The camera cannot be used (${error.message}).`);
  }
}

async function readCamera() {
  say("Asking for the camera …");
  const stream = await openCamera();
  const video = document.createElement("video");
  Object.assign(video, { srcObject: stream, muted: true, playsInline: true, ariaLabel: "Your camera" });
  const signal = begin(video);
  signal.addEventListener("abort", () => {
    stream.getTracks().forEach((track) => track.stop());
    showCamera(false);
  });
  showCamera(true);
  await video.play();
  while (!signal.aborted) { // the next frame leaves when the answer to the last is there
    const reading = await ask(() => shrink(video), signal, { detect: "always" });
    if (reading) show(reading, true);
    await new Promise(requestAnimationFrame);
  }
}

function showCamera(on) {
  cameraButton.ariaPressed = String(on);
  cameraButton.textContent = on ? "Switch the camera off" : "Switch the camera on";
}

function stop() {
  work.abort();
  clear();
  stage.hidden = true;
  say("The camera is off.");
}

/* What people do. */

cameraButton.addEventListener("click", async () => {
  if (cameraButton.ariaPressed === "true") return stop();
  try {
    await readCamera();
  } catch (error) {
    if (cameraButton.ariaPressed === "true") stop();
    say(error.message, true);
  }
});

fileInput.addEventListener("change", () => {
  if (fileInput.files.length) readFile(fileInput.files[0]);
  fileInput.value = ""; // so that the same file can be chosen again
});

function readDropped(items) {
  if (items.files.length) readFile(items.files[0]);
  else say("That was no file. Drop or paste a picture.", true);
}

document.addEventListener("paste", (event) => readDropped(event.clipboardData));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
document.addEventListener("dragleave", () => document.body.classList.remove("dropping"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  readDropped(event.dataTransfer);
});
