/** Reads pictures in this browser, for the page that `dexpression page` writes: the models lie beside it, in models/. */

import { FaceDetector, faceSquare } from "./detector.js";
import { decode, resize, roundEven, toGrey } from "./pixels.js";
import { UserError, setStatus } from "./status.js";

const MODELS = new URL("../models/", import.meta.url);
const LANDMARKS = ["right_eye", "left_eye", "nose", "mouth_right", "mouth_left"]; // the points of the detector
const RUNTIME = new URL("../onnxruntime/", import.meta.url);

let loading = null;
let models = null;
let turn = Promise.resolve(); // of the last picture; the models read one at a time

/** The reading of a picture, a Blob, as POST /v1/predict gives it. `detect` is "auto" or "always". Throws UserError. */
export async function predict(picture, { signal, detect = "auto" }) {
  if (!models) setStatus("loadingModels");
  await load();
  const reading = turn.then(() => read(picture, signal, detect));
  turn = reading.catch(() => {});
  return reading;
}

function load() {
  loading ??= openModels().catch((error) => {
    loading = null;
    throw new UserError("noModels", { detail: error.message });
  });
  return loading;
}

async function openModels() {
  const runtime = await import(new URL("ort.wasm.min.js", RUNTIME));
  const { wasm } = runtime.env;
  wasm.numThreads = 1; // more need headers that a static host does not send
  wasm.wasmPaths = {
    mjs: new URL("ort-wasm-simd-threaded.js", RUNTIME).href,
    wasm: new URL("ort-wasm-simd-threaded.wasm", RUNTIME).href,
  };
  const { search, ...facts } = JSON.parse(new TextDecoder().decode(await download("facts.json")));
  const open = async (name) => runtime.InferenceSession.create(await download(name), { enableMemPattern: false });
  const [yunet, classifier] = [await open("detector.onnx"), await open("dexpression.onnx")];
  const detector = new FaceDetector(async (planes, width, height) => {
    const outputs = await yunet.run({ input: new runtime.Tensor("float32", planes, [1, 3, height, width]) });
    return Object.fromEntries(Object.entries(outputs).map(([name, { data }]) => [name, data]));
  }, search);
  const classify = async ({ data, width, height }) => {
    const outputs = await classifier.run({ pixels: new runtime.Tensor("uint8", data, [1, 1, height, width]) });
    return outputs[facts.reading].data;
  };
  models = { detector, classify, search, ...facts };
}

async function download(name) {
  const response = await fetch(new URL(name, MODELS), { cache: "no-cache" }); // all of one model, also after another took its place
  if (!response.ok) throw new Error(`${name}: ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}

async function read(picture, signal, detect) {
  stopIfAborted(signal);
  const { width, height, pixels } = await decode(picture, models.search.min_short_side);
  const isOneFace = detect === "auto" && Math.max(width, height) <= models.search.largest_crop;
  const found = isOneFace ? [centredSquare(pixels)] : await models.detector.find(pixels);
  const faces = [];
  for (const face of found) {
    await new Promise((resolve) => setTimeout(resolve)); // the page can answer the person between two faces
    stopIfAborted(signal);
    const probabilities = await models.classify(isOneFace ? frameFace(pixels, face) : cropFace(pixels, face));
    faces.push(describe(face, [width / pixels.width, height / pixels.height], probabilities));
  }
  stopIfAborted(signal);
  const { result, confidence, probabilities } = faces[0] ?? { result: null, confidence: null, probabilities: null };
  const model = { name: "dexpression", sha256: models.sha256 };
  return { result, confidence, probabilities, reading: models.reading, faces, image: { width, height }, model, request_id: randomId() };
}

function stopIfAborted(signal) {
  if (signal?.aborted) throw new Error("Another task has started.");
}

function centredSquare({ width, height }) {
  const side = Math.min(width, height);
  const [left, top] = [(width - side) / 2, (height - side) / 2];
  return { left, top, right: left + side, bottom: top + side, confidence: null };
}

/** The square of a face, as the network takes it. A face that fills its picture becomes grey first, as on the server. */
const cropFace = (pixels, face) => toGrey(resize(pixels, models.image_size, models.image_size, faceSquare(face, pixels, models.search.crop_scale)));
const frameFace = (pixels, square) => resize(toGrey(pixels), models.image_size, models.image_size, square);

/** One face for JSON; `scale` is that of the original picture, across and down. */
function describe({ left, top, right, bottom, confidence, points }, [across, down], probabilities) {
  const [x, y] = [roundEven(left * across), roundEven(top * down)];
  const box = { x, y, width: roundEven(right * across) - x, height: roundEven(bottom * down) - y };
  const best = probabilities.indexOf(Math.max(...probabilities));
  return {
    box,
    detection_confidence: confidence === null ? null : rounded(confidence),
    ...describeLandmarks(points?.map(({ x, y }) => ({ x: x * across, y: y * down }))),
    result: models.labels[best],
    confidence: rounded(probabilities[best]),
    probabilities: Object.fromEntries(models.labels.map((label, index) => [label, rounded(probabilities[index])])),
  };
}

/** The landmarks of a face and its roll in degrees for JSON; nulls for a picture that is one face. */
function describeLandmarks(points) {
  if (!points) return { landmarks: null, roll: null };
  const [right, left] = points;
  const roll = (Math.atan2(left.y - right.y, left.x - right.x) * 180) / Math.PI;
  const named = points.map(({ x, y }, index) => [LANDMARKS[index], { x: toTenths(x), y: toTenths(y) }]);
  return { landmarks: Object.fromEntries(named), roll: toTenths(roll) };
}

const toTenths = (value) => Math.round(value * 10) / 10;
const rounded = (share) => Math.round(share * 1e6) / 1e6;

/** 32 hexadecimal digits; crypto.randomUUID needs HTTPS. */
const randomId = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

load().catch(() => {}); // at once, so that the first picture waits less; an error is shown with it
