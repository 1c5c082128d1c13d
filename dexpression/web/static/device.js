/** Reads pictures in this browser, for the page that `dexpression page` writes: the models lie beside it, in models/. */

import { FaceDetector, faceSquare } from "./detector.js";
import { evidenceMaps } from "./evidence.js";
import { decode, resize, roundEven, toGrey } from "./pixels.js";
import { UserError, setStatus } from "./status.js";

const MODELS = new URL("../models/", import.meta.url);
const LANDMARKS = ["right_eye", "left_eye", "nose", "mouth_right", "mouth_left"]; // the points of the detector
const RUNTIME = new URL("../onnxruntime/", import.meta.url);

let loading = null;
let models = null;
let turn = Promise.resolve(); // of the last picture; the models read one at a time

/**
 * The reading of a picture, a Blob, as POST /v1/predict gives it. Throws UserError.
 *
 * `detect` is "auto" or "always"; `explain` is "false", "true" or "all".
 */
export async function predict(picture, { signal, detect = "auto", explain = "false" }) {
  if (!models) setStatus("loadingModels");
  await load();
  if (explain !== "false" && !models.readout) throw new UserError("noEvidence");
  const reading = turn.then(() => read(picture, signal, detect, explain));
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
    return { probabilities: outputs[facts.reading].data, evidence: outputs.evidence };
  };
  models = { detector, classify, search, ...facts };
}

async function download(name) {
  const response = await fetch(new URL(name, MODELS), { cache: "no-cache" }); // all of one model, also after another took its place
  if (!response.ok) throw new Error(`${name}: ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}

async function read(picture, signal, detect, explain) {
  stopIfAborted(signal);
  const { width, height, pixels } = await decode(picture, models.search.min_short_side);
  const isOneFace = detect === "auto" && Math.max(width, height) <= models.search.largest_crop;
  const found = isOneFace ? [centredSquare(pixels)] : await models.detector.find(pixels);
  const scale = [width / pixels.width, height / pixels.height];
  const faces = [];
  for (const face of found) {
    await new Promise((resolve) => setTimeout(resolve)); // the page can answer the person between two faces
    stopIfAborted(signal);
    const square = isOneFace ? face : faceSquare(face, pixels, models.search.crop_scale);
    const answer = await models.classify(isOneFace ? frameFace(pixels, square) : cropFace(pixels, square));
    const evidence = explain === "false" ? {} : { evidence: describeEvidence(square, scale, answer, explain) };
    faces.push({ ...describe(face, scale, answer.probabilities), ...evidence });
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
const cropFace = (pixels, square) => toGrey(resize(pixels, models.image_size, models.image_size, square));
const frameFace = (pixels, square) => resize(toGrey(pixels), models.image_size, models.image_size, square);

/** One face for JSON; `scale` is that of the original picture, across and down. */
function describe(face, [across, down], probabilities) {
  const { confidence, points } = face;
  const best = indexOfLargest(probabilities);
  return {
    box: describeBox(face, [across, down]),
    detection_confidence: confidence === null ? null : rounded(confidence),
    ...describeLandmarks(points?.map(({ x, y }) => ({ x: x * across, y: y * down }))),
    result: models.labels[best],
    confidence: rounded(probabilities[best]),
    probabilities: Object.fromEntries(models.labels.map((label, index) => [label, rounded(probabilities[index])])),
  };
}

function describeBox({ left, top, right, bottom }, [across, down]) {
  const [x, y] = [roundEven(left * across), roundEven(top * down)];
  return { x, y, width: roundEven(right * across) - x, height: roundEven(bottom * down) - y };
}

/** The evidence in a square for JSON: for the answered label or, if `explain` is "all", for each one. */
function describeEvidence(square, scale, { probabilities, evidence }, explain) {
  const best = indexOfLargest(probabilities);
  const named = evidenceMaps(evidence, probabilities, models.readout)
    .map((map, label) => [models.labels[label], map.map((row) => row.map(toTenThousandths))])
    .filter((_, label) => explain === "all" || label === best);
  return { box: describeBox(square, scale), maps: Object.fromEntries(named) };
}

/** The landmarks of a face and its roll in degrees for JSON; nulls for a picture that is one face. */
function describeLandmarks(points) {
  if (!points) return { landmarks: null, roll: null };
  const [right, left] = points;
  const roll = (Math.atan2(left.y - right.y, left.x - right.x) * 180) / Math.PI;
  const named = points.map(({ x, y }, index) => [LANDMARKS[index], { x: toTenths(x), y: toTenths(y) }]);
  return { landmarks: Object.fromEntries(named), roll: toTenths(roll) };
}

const indexOfLargest = (probabilities) => probabilities.indexOf(Math.max(...probabilities));
const toTenths = (value) => Math.round(value * 10) / 10;
const toTenThousandths = (value) => Math.round(value * 1e4) / 1e4;
const rounded = (share) => Math.round(share * 1e6) / 1e6;

/** 32 hexadecimal digits; crypto.randomUUID needs HTTPS. */
const randomId = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

load().catch(() => {}); // at once, so that the first picture waits less; an error is shown with it
