/**
 * Finds faces with YuNet in onnxruntime-web, as the server finds them: dexpression/faces.py says why, and a test
 * compares them. The numbers of a search come from there too, in models/facts.json.
 */

import { reduce, resize, roundEven } from "./pixels.js";

export class FaceDetector {
  /** `run(planes, width, height)` gives the outputs of YuNet by name; `search` has the numbers of the search. */
  constructor(run, search) {
    Object.assign(this, { run, search });
  }

  /** The largest faces in a picture in RGB, largest first, each with its box, its `confidence`, 0..1, and five `points`. */
  async find(pixels) {
    const found = await this.#detectQuickly(pixels);
    const { width, height } = pixels;
    const inside = found.map((face) => ({
      ...face,
      left: clip(face.left, width), top: clip(face.top, height), right: clip(face.right, width), bottom: clip(face.bottom, height),
    }));
    const faces = suppressOverlaps(inside, this.search.max_overlap);
    return faces.sort((one, other) => area(other) - area(one)).slice(0, this.search.max_faces);
  }

  /** Detect faces in a small copy; in a larger one if there is none, or if there may be others. */
  async #detectQuickly(pixels) {
    const { side, quick_side, small_face, possible, possible_small, min_confidence, max_overlap } = this.search;
    const scale = quick_side / Math.max(pixels.width, pixels.height);
    if (scale < 1) {
      const found = await this.#detect(pixels, quick_side, Math.min(possible_small, min_confidence));
      const isSmall = (face) => Math.sqrt(area(face)) * scale < small_face;
      const certain = found.filter(({ confidence }) => confidence >= min_confidence);
      const others = found.filter((face) => face.confidence < min_confidence && (isSmall(face) || face.confidence >= possible));
      const areAllSeen = others.every((face) => certain.some((one) => overlap(one, face) > max_overlap));
      if (certain.length && !certain.some(isSmall) && areAllSeen) return certain;
    }
    return this.#detect(pixels, side, min_confidence);
  }

  /** Detect faces in a picture whose long side is scaled down to `side` pixels. */
  async #detect(pixels, side, minConfidence) {
    const scale = Math.min(1, side / Math.max(pixels.width, pixels.height));
    const whole = Math.max(...this.search.strides);
    const scaled = scaleTo(pixels, Math.max(1, roundEven(pixels.width * scale)), Math.max(1, roundEven(pixels.height * scale)));
    const [width, height] = [scaled.width, scaled.height].map((length) => Math.ceil(length / whole) * whole);
    const maps = await this.run(toPlanes(scaled, width, height), width, height);
    return this.search.strides.flatMap((stride) => decodeGrid(maps, stride, width / stride, minConfidence, scale));
  }
}

/** Averaging whole rectangles of pixels first is faster, and as many faces are found. */
function scaleTo(pixels, width, height) {
  if (pixels.width === width && pixels.height === height) return pixels;
  const [across, down] = [pixels.width / width, pixels.height / height].map((factor) => Math.max(1, Math.trunc(factor)));
  const box = { left: 0, top: 0, right: pixels.width / across, bottom: pixels.height / down };
  return resize(reduce(pixels, across, down), width, height, box);
}

/** One plane for each of blue, green and red, 0..255, filled up with black at the right and at the bottom. */
function toPlanes({ data, width, height }, planeWidth, planeHeight) {
  const planes = new Float32Array(3 * planeWidth * planeHeight);
  for (let plane = 0; plane < 3; plane += 1) {
    for (let y = 0; y < height; y += 1) {
      const to = (plane * planeHeight + y) * planeWidth;
      for (let x = 0; x < width; x += 1) planes[to + x] = data[(y * width + x) * 3 + 2 - plane];
    }
  }
  return planes;
}

/** Decode one grid of YuNet's outputs; `columns` is the number of points in a row. */
function decodeGrid(maps, stride, columns, minConfidence, scale) {
  const [classes, objects, boxes, offsets] = ["cls", "obj", "bbox", "kps"].map((name) => maps[`${name}_${stride}`]);
  const faces = [];
  for (let point = 0; point < classes.length; point += 1) {
    const confidence = Math.sqrt(clip(classes[point], 1) * clip(objects[point], 1));
    if (!(confidence >= minConfidence)) continue;
    const [across, down, width, height] = boxes.subarray(4 * point, 4 * point + 4);
    const [column, row] = [point % columns, Math.floor(point / columns)];
    const [x, y] = [(column + across) * stride, (row + down) * stride];
    const [halfWidth, halfHeight] = [width, height].map((size) => (Math.exp(size) * stride) / 2);
    const corners = { left: x - halfWidth, top: y - halfHeight, right: x + halfWidth, bottom: y + halfHeight };
    for (const side of Object.keys(corners)) corners[side] /= scale;
    const points = Array.from({ length: 5 }, (_, index) => {
      const [right, below] = offsets.subarray(10 * point + 2 * index, 10 * point + 2 * index + 2);
      return { x: ((column + right) * stride) / scale, y: ((row + below) * stride) / scale };
    });
    faces.push({ ...corners, confidence, points });
  }
  return faces;
}

/** Of faces that overlap, the most confident one alone. */
function suppressOverlaps(faces, maxOverlap) {
  let candidates = faces.filter((face) => area(face) > 0).sort((one, other) => other.confidence - one.confidence);
  const kept = [];
  while (candidates.length) {
    const [best] = candidates;
    kept.push(best);
    candidates = candidates.filter((face) => overlap(best, face) <= maxOverlap);
  }
  return kept;
}

/** The square around the centre of a face that is cropped, kept inside the picture. */
export function faceSquare(face, { width, height }, scale) {
  const side = Math.min(scale * Math.sqrt(area(face)), width, height);
  const left = clip((face.left + face.right - side) / 2, width - side);
  const top = clip((face.top + face.bottom - side) / 2, height - side);
  return { left, top, right: left + side, bottom: top + side };
}

const clip = (value, largest) => Math.min(Math.max(value, 0), largest);
const area = ({ left, top, right, bottom }) => Math.max(0, right - left) * Math.max(0, bottom - top);

/** Intersection over union, 0..1, of two boxes. */
function overlap(one, other) {
  const shared = area({
    left: Math.max(one.left, other.left), top: Math.max(one.top, other.top),
    right: Math.min(one.right, other.right), bottom: Math.min(one.bottom, other.bottom),
  });
  return shared / (area(one) + area(other) - shared);
}
