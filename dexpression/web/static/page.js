/** The page: pictures from files, the sample, films and the camera. */

import { Tracker, shrink } from "../client.js";
import { openCamera, setCameraOn, waitUntilContinued } from "./camera.js";
import { isFilm, readFilm } from "./film.js";
import { createFrame } from "./frames.js";
import { startLanguageSwitch } from "./language.js";
import { openPicture } from "./picture.js";
import { predictWithRetry } from "./request.js";
import { Result, countResults, summarise } from "./result.js";
import { Announcer, UserError, describeError, setError, setStatus } from "./status.js";
import { hideTokenForm } from "./token.js";
import { addWhySwitch } from "./why.js";

const results = document.querySelector("#results");
const cameraButton = document.querySelector("#camera");
const fileInput = document.querySelector("#file");

let currentTask = new AbortController(); // a new task aborts it
let cameraIsOn = false;

/* Tasks. Only one runs at a time: a new one aborts the last one. */

function startTask() {
  currentTask.abort();
  currentTask = new AbortController();
  results.replaceChildren();
  hideTokenForm();
  return currentTask.signal;
}

/** Run `task(signal)` and show its error, unless a newer task has started. */
async function runTask(task) {
  const signal = startTask();
  document.body.classList.add("used");
  try {
    await task(signal);
  } catch (error) {
    if (signal.aborted) return;
    startTask();
    setError(...describeError(error));
  }
}

function addResult(name, isOneOfSeveral = false) {
  const result = new Result(name, isOneOfSeveral);
  results.append(result.element);
  return result;
}

/* Pictures. */

async function readFiles(files, signal) {
  if (files.length === 0) throw new UserError("noFile");
  if (files.length > 1) return readSeveral(files, signal);
  setStatus(isFilm(files[0]) ? "readingFilm" : "reading");
  if (isFilm(files[0])) return readFilm(files[0], addResult(files[0].name), signal);
  const reading = await readFile(files[0], addResult(files[0].name), signal);
  setStatus(...summarise(reading));
}

async function readFile(file, result, signal) {
  const { image, copies } = await openPicture(file, signal);
  if (image) result.showMedia(image);
  const reading = await predictWithRetry(copies, signal);
  result.showReading(reading);
  if (image && reading.faces.length) addWhySwitch(result, () => predictWithRetry(copies, signal, { explain: "true" }));
  return reading;
}

/** Read pictures one after the other; one that cannot be read does not stop the others. */
async function readSeveral(files, signal) {
  const readings = [];
  for (const [index, file] of files.entries()) {
    setStatus("readingOne", { number: index + 1, pictures: files.length });
    const result = addResult(file.name, true);
    try {
      if (isFilm(file)) throw new UserError("severalFilms");
      readings.push(await readFile(file, result, signal));
    } catch (error) {
      if (signal.aborted) return;
      result.showError(...describeError(error));
    }
  }
  const faces = readings.flatMap((reading) => reading.faces);
  setStatus("allRead", { read: readings.length, pictures: files.length, faces: faces.length, counts: countResults(faces) });
}

const runFiles = (files) => runTask((signal) => readFiles([...files], signal));

async function readSample(signal) {
  const response = await fetch("static/sample.jpg").catch(() => null);
  if (!response?.ok) throw new UserError("unreachable");
  await readFiles([new File([await response.blob()], "sample.jpg", { type: "image/jpeg" })], signal);
}

/* The camera. */

async function readCamera(signal) {
  setStatus("openingCamera");
  switchCamera(true);
  signal.addEventListener("abort", () => switchCamera(false));
  const video = await openCamera(signal);
  if (signal.aborted) return;
  const result = addResult("camera");
  result.showMedia(video);
  await video.play();
  const tracker = new Tracker();
  const announcer = new Announcer();
  while (video.srcObject.active) { // one request at a time: the next frame is sent after the last answer
    const isFrozen = video.paused; // it is read once more, so that the boxes are those of the frame that is shown
    let time;
    const copy = () => {
      time = performance.now() / 1000;
      return shrink(video);
    };
    const reading = await predictWithRetry([copy], signal, { detect: "always", onFailure: () => result.clear() });
    const frame = createFrame(time, reading, tracker);
    result.showReading(frame, video.classList.contains("mirrored"));
    announcer.announce(summarise(frame), isFrozen);
    await (isFrozen ? waitUntilContinued(video, signal) : new Promise(requestAnimationFrame));
    if (signal.aborted) return;
  }
  throw new UserError("cameraGone");
}

function switchCamera(isOn) {
  cameraIsOn = isOn;
  setCameraOn(isOn);
}

/* Events. */

cameraButton.addEventListener("click", () => {
  if (!cameraIsOn) return runTask(readCamera);
  startTask();
  setStatus("cameraIsOff");
});
document.querySelector("#cameras").addEventListener("change", () => runTask(readCamera));
document.querySelector("#sample").addEventListener("click", () => runTask(readSample));

fileInput.addEventListener("change", () => {
  if (fileInput.files.length) runFiles(fileInput.files);
  fileInput.value = ""; // so that the same file can be chosen again
});

document.addEventListener("paste", (event) => {
  if (event.target !== document.querySelector("#token")) runFiles(event.clipboardData.files);
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
document.addEventListener("dragleave", () => document.body.classList.remove("dropping"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  runFiles(event.dataTransfer.files);
});

/* Start. */

document.querySelector("#curl").textContent = `curl -F file=@photo.jpg ${new URL(".", location.href)}`;
switchCamera(false);
startLanguageSwitch(document.querySelector("#language"));
document.querySelector("#not-started").remove();
