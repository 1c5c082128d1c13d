/**
 * Tracks and calm labels of faces from frame to frame, with the numbers and labels that `dexpression video` gives:
 * dexpression/video/tracking.py and smoothing.py say why, and a test compares them. `client.js` exports `Tracker`.
 */

const MIN_OVERLAP = 0.2; // intersection over union of a face and the place where its track is expected
export const MAX_GAP_SECONDS = 0.75; // until a track that is not seen ends
const SPEED_SECONDS = 0.2; // the time constant over which the speed of a track is averaged
const SMOOTHING_SECONDS = 0.5; // that of the probabilities of a track
const MIN_LEAD = 0.1; // probability by which another label leads before it takes the place of the shown one

/** Follows faces, and gives each a number and a label that does not flicker. Numbers count from 1. */
export class Tracker {
  #tracks = [];
  #count = 0;
  #lastTime = -Infinity;

  /**
   * The faces of a reading in the frame of this time, in seconds, which is later than the frame before.
   *
   * Each gets `track`, its number, and `average`, its probabilities averaged over the time of the track. `result` and
   * `confidence` become those of the average; `probabilities` stay those of the frame.
   */
  follow(time, faces) {
    if (!(time > this.#lastTime)) {
      throw new RangeError(`Time ${time} is not later than ${this.#lastTime}, that of the last frame. Make a new Tracker to start again.`);
    }
    const oldest = Math.min(time - MAX_GAP_SECONDS, this.#lastTime); // a track of the frame before may continue
    this.#tracks = this.#tracks.filter((track) => track.time >= oldest);
    this.#lastTime = time;
    const pairs = this.#pair(time, faces);
    return faces.map((face) => (pairs.get(face) ?? this.#start()).follow(time, face));
  }

  /** The track of each face that overlaps with one, the best pairs first. */
  #pair(time, faces) {
    const overlaps = this.#tracks.flatMap((track) => {
      const expected = track.expect(time);
      return faces.map((face) => ({ track, face, share: overlap(expected, face.box) }));
    });
    const pairs = new Map();
    const taken = new Set();
    for (const { track, face, share } of overlaps.sort((one, other) => other.share - one.share)) {
      if (!(share >= MIN_OVERLAP) || pairs.has(face) || taken.has(track)) continue;
      pairs.set(face, track);
      taken.add(track);
    }
    return pairs;
  }

  #start() {
    this.#count += 1;
    this.#tracks.push(new Track(this.#count));
    return this.#tracks[this.#tracks.length - 1];
  }
}

/** The face of one person, as it was last seen. */
class Track {
  #speed = { x: 0, y: 0 }; // of its centre, in pixels a second
  #label = new CalmLabel();

  constructor(number) {
    this.number = number;
  }

  /** The box at a time, if the face moves on as it did. */
  expect(time) {
    const seconds = time - this.time;
    return { ...this.box, x: this.box.x + this.#speed.x * seconds, y: this.box.y + this.#speed.y * seconds };
  }

  follow(time, face) {
    if (this.box) this.#accelerate(time - this.time, face.box);
    Object.assign(this, { time, box: face.box });
    this.#label.update(time, face.probabilities);
    const { label, confidence, average } = this.#label;
    return { ...face, track: this.number, result: label, confidence, average };
  }

  #accelerate(seconds, { x, y, width, height }) {
    const share = 1 - Math.exp(-seconds / SPEED_SECONDS);
    const moved = { x: x - this.box.x + (width - this.box.width) / 2, y: y - this.box.y + (height - this.box.height) / 2 };
    for (const axis of ["x", "y"]) this.#speed[axis] += share * (moved[axis] / seconds - this.#speed[axis]);
  }
}

/** The label that is shown for one track: it changes only to one that leads by MIN_LEAD. */
class CalmLabel {
  #time = -Infinity;
  average = {};
  label = "";

  get confidence() {
    return this.average[this.label];
  }

  update(time, probabilities) {
    const share = 1 - Math.exp((this.#time - time) / SMOOTHING_SECONDS); // 1 for the first frame
    this.#time = time;
    const mix = ([label, now]) => [label, share * now + (1 - share) * (this.average[label] ?? 0)];
    this.average = Object.fromEntries(Object.entries(probabilities).map(mix));
    const best = Object.keys(this.average).reduce((one, other) => (this.average[other] > this.average[one] ? other : one));
    if (this.average[best] >= (this.average[this.label] ?? -1) + MIN_LEAD) this.label = best;
  }
}

/** Intersection over union, 0..1, of two boxes. */
function overlap(one, other) {
  const shared = overlapOf(one.x, one.width, other.x, other.width) * overlapOf(one.y, one.height, other.y, other.height);
  return shared / (one.width * one.height + other.width * other.height - shared);
}

const overlapOf = (start, length, otherStart, otherLength) => {
  return Math.max(0, Math.min(start + length, otherStart + otherLength) - Math.max(start, otherStart));
};
