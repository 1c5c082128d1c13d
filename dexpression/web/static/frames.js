/** What was read of a film: its frames, the history of each track, and rows for CSV. */

import { Tracker } from "../client.js";
import { MAX_GAP_SECONDS } from "./tracks.js";

const EVERY_SECONDS = 0.1; // frames of a film that are nearer to each other are not read again, as in `dexpression video`
const COLUMNS = ["path", "time", "track", "x", "y", "width", "height", "detection_confidence", "result", "confidence"];

/** The frame of a reading: its faces are followed. */
export const createFrame = (time, { faces, image, model }, tracker) => ({ time, faces: tracker.follow(time, faces), image, model });

/**
 * Frames in the order of their times, whatever the order in which they are added.
 *
 * The tracks are always those of a film that was read from its first to its last frame. So a frame that is added between
 * others, after a step back, can change the numbers of tracks.
 */
export class Frames {
  #frames = [];
  #tracker = new Tracker();
  #histories = new Map(); // by number of the track

  /** The frame that was read at about this time, if any. */
  find(time) {
    const index = this.#indexOf(time);
    const [nearest] = this.#frames.slice(Math.max(0, index - 1), index + 1).sort((one, other) => Math.abs(one.time - time) - Math.abs(other.time - time));
    return nearest && Math.abs(nearest.time - time) < 0.95 * EVERY_SECONDS ? nearest : null; // times in a film are rounded
  }

  add(time, reading) {
    const index = this.#indexOf(time);
    if (index === this.#frames.length) return this.#append(createFrame(time, reading, this.#tracker));
    const later = this.#frames.splice(index);
    const before = this.#frames;
    this.#frames = [];
    this.#tracker = new Tracker();
    this.#histories.clear();
    for (const known of [...before, { ...reading, time }, ...later.filter((frame) => frame.time > time)]) {
      this.#append(createFrame(known.time, known, this.#tracker));
    }
    return this.#frames[index];
  }

  /** The history of each track, by number. */
  get histories() {
    return [...this.#histories.values()];
  }

  /** The time of the last frame; 0 without one. */
  get end() {
    return this.#frames.length ? this.#frames[this.#frames.length - 1].time : 0;
  }

  /** One row per face, with the columns of `dexpression video --csv`; the path is the name of the film. */
  toCsv(name) {
    const faces = this.#frames.flatMap((frame) => frame.faces.map((face) => ({ time: frame.time, ...face })));
    const labels = [...new Set(faces.flatMap((face) => Object.keys(face.probabilities)))];
    const rows = faces.map(({ time, track, box, detection_confidence, result, confidence, probabilities }) => [
      name, round(time, 3), track, box.x, box.y, box.width, box.height, detection_confidence, result, round(confidence, 6),
      ...labels.map((label) => probabilities[label]),
    ]);
    return [[...COLUMNS, ...labels], ...rows].map((row) => `${row.map(quote).join(",")}\n`).join("");
  }

  #append(frame) {
    this.#frames.push(frame);
    for (const { track, result } of frame.faces) {
      if (!this.#histories.has(track)) this.#histories.set(track, new History(track));
      this.#histories.get(track).add(frame.time, result);
    }
    return frame;
  }

  /** The index of the first frame that is not before this time. */
  #indexOf(time) {
    let [start, end] = [0, this.#frames.length];
    while (start < end) {
      const middle = (start + end) >> 1;
      if (this.#frames[middle].time < time) start = middle + 1;
      else end = middle;
    }
    return start;
  }
}

/** When a track had which label: `stretches` are times from `start` to `end` with one `label`. */
class History {
  stretches = [];
  changes = 0;

  constructor(track) {
    this.track = track;
  }

  get start() {
    return this.stretches[0].start;
  }

  get end() {
    return this.stretches[this.stretches.length - 1].end;
  }

  get seconds() {
    return this.stretches.reduce((total, { start, end }) => total + end - start, 0);
  }

  /** The share of the time of each label, 0..1, the largest first. */
  get shares() {
    const seconds = new Map();
    for (const { label, start, end } of this.stretches) seconds.set(label, (seconds.get(label) ?? 0) + end - start);
    const total = this.seconds;
    if (!total) return [[this.stretches[0].label, 1]];
    return [...seconds].map(([label, share]) => [label, share / total]).sort((one, other) => other[1] - one[1]);
  }

  /** A label lasts until the next frame, unless that is so late that nothing is known of the time between. */
  add(time, label) {
    const last = this.stretches[this.stretches.length - 1];
    const isNear = last && time - last.end <= MAX_GAP_SECONDS;
    if (isNear) last.end = time;
    if (last && last.label !== label) this.changes += 1;
    if (!isNear || last.label !== label) this.stretches.push({ label, start: time, end: time });
  }
}

const round = (value, digits) => Number(value.toFixed(digits));

/** A value of a CSV row, in quotation marks where its characters require it. */
function quote(value) {
  const text = String(value ?? "");
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
