/** The camera: which one it is, and whether it stands still. */

import { write, writeLabel } from "./language.js";
import { UserError } from "./status.js";

const ERRORS = ["NotAllowedError", "NotFoundError", "NotReadableError", "OverconstrainedError"]; // with own messages

const switchButton = document.querySelector("#camera");
const freezeButton = document.querySelector("#freeze");
const chooser = document.querySelector("#cameras");

/** Open the chosen camera, or at first the front camera, and return a video of it. It closes when `signal` aborts. */
export async function openCamera(signal) {
  if (!navigator.mediaDevices) throw new UserError("cameraNeedsHttps");
  const choice = chooser.value ? { deviceId: { exact: chooser.value } } : { facingMode: "user" };
  const constraints = { video: { width: 640, height: 480, ...choice } };
  const stream = await navigator.mediaDevices.getUserMedia(constraints).catch((error) => {
    chooser.replaceChildren(); // what was chosen may be gone
    throw new UserError(ERRORS.includes(error.name) ? error.name : "cameraFailed", { detail: error.message });
  });
  const stop = () => stream.getTracks().forEach((track) => track.stop());
  signal.addEventListener("abort", stop);
  if (signal.aborted) stop(); // another task started while the browser asked for permission
  await listCameras(stream);
  const video = document.createElement("video");
  Object.assign(video, { srcObject: stream, muted: true, playsInline: true });
  writeLabel(video, "yourCamera");
  video.classList.toggle("mirrored", !seesAway(stream));
  return video;
}

/** Whether the camera looks away from the person who holds it, so that its picture must not be mirrored. */
function seesAway(stream) {
  const [track] = stream.getVideoTracks();
  return track.getSettings().facingMode === "environment" || /\b(back|rear)\b/i.test(track.label);
}

/** Offer all cameras if there are several. Their names are known once one of them is open. */
async function listCameras(stream) {
  const devices = await navigator.mediaDevices.enumerateDevices();
  const cameras = devices.filter(({ kind, deviceId }) => kind === "videoinput" && deviceId);
  const options = cameras.map(({ deviceId, label }, index) => {
    const option = new Option(label, deviceId);
    if (!label) write(option, "cameraNumber", { number: index + 1 });
    return option;
  });
  chooser.replaceChildren(...options);
  chooser.value = stream.getVideoTracks()[0].getSettings().deviceId;
  chooser.parentElement.hidden = cameras.length < 2;
}

/** Wait until a frozen video goes on, or `signal` aborts. */
export function waitUntilContinued(video, signal) {
  return new Promise((resolve) => {
    video.addEventListener("play", resolve, { once: true });
    signal.addEventListener("abort", resolve, { once: true });
  });
}

/** Show the buttons of a camera that is on or off. */
export function setCameraOn(isOn) {
  write(switchButton, isOn ? "cameraOff" : "cameraOn");
  write(freezeButton, "freeze");
  freezeButton.hidden = !isOn;
  if (!isOn) chooser.parentElement.hidden = true;
}

freezeButton.addEventListener("click", () => {
  const video = document.querySelector("video");
  if (!video) return;
  write(freezeButton, video.paused ? "freeze" : "unfreeze");
  if (video.paused) video.play();
  else video.pause();
});
