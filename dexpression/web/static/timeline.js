/** A timeline: for each track of a film a strip with the colours of its labels, and their shares in words. */

import { write, writeLabel } from "./language.js";
import { createElement } from "./result.js";

const MAX_TRACKS = 12; // those that are seen longest; more cannot be read
const STRIP = { width: 1200, height: 16 }; // pixels of the canvas, which is scaled to the width of the page
const MIN_WIDTH = 3; // of these, for a face that was seen in one frame
const COLOURS = { // those of the plot of `dexpression video`
  ANGRY: "#d62728",
  DISGUST: "#2ca02c",
  FEAR: "#9467bd",
  HAPPY: "#ff9f0e",
  NEUTRAL: "#7f7f7f",
  SAD: "#1f77b4",
  SURPRISE: "#17becf",
  CONTEMPT: "#8c564b",
};
const OTHER_COLOURS = ["#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf"];

export class Timeline {
  #labels = []; // without a colour in COLOURS

  /** `seek(share)` is called for a click, with the share of the length, 0..1, at which it is. */
  constructor(seek) {
    this.rows = createElement("ol", "tracks");
    writeLabel(this.rows, "timeline");
    this.more = createElement("p", "summary");
    this.more.hidden = true;
    this.playhead = createElement("div", "playhead");
    this.playhead.hidden = true;
    this.element = createElement("div", "timeline", this.rows, this.playhead, this.more);
    this.rows.addEventListener("click", ({ target, offsetX }) => {
      if (target.matches("canvas")) seek(offsetX / target.offsetWidth);
    });
  }

  /** Show the histories of all tracks, in a film of this length in seconds. */
  show(histories, length) {
    const longest = [...histories].sort((one, other) => other.seconds - one.seconds).slice(0, MAX_TRACKS);
    const shown = longest.sort((one, other) => one.track - other.track);
    while (this.rows.children.length > shown.length) this.rows.lastChild.remove();
    while (this.rows.children.length < shown.length) this.rows.append(createRow());
    shown.forEach((history, index) => this.#updateRow(this.rows.children[index], history, length));
    write(this.more, "moreTracks", { shown: shown.length, faces: histories.length });
    this.more.hidden = shown.length === histories.length;
    this.playhead.hidden = shown.length === 0;
  }

  /** Mark the time that is shown, as a share of the length, 0..1. */
  mark(share) {
    this.playhead.style.left = `${100 * Math.min(1, share)}%`;
  }

  #updateRow(row, history, length) {
    const { track, start, end, changes, shares } = history;
    write(row.querySelector("span"), "track", { number: track, start, end, changes });
    this.#draw(row.querySelector("canvas"), history.stretches, length);
    const list = row.querySelector("ul");
    while (list.children.length > shares.length) list.lastChild.remove();
    while (list.children.length < shares.length) list.append(createElement("li", "", createElement("i"), createElement("span")));
    shares.forEach(([label, confidence], index) => {
      list.children[index].firstChild.style.background = this.#colourOf(label);
      write(list.children[index].lastChild, "box", { label, confidence });
    });
  }

  #draw(canvas, stretches, length) {
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, STRIP.width, STRIP.height);
    for (const { label, start, end } of stretches) {
      context.fillStyle = this.#colourOf(label);
      const [left, right] = [start, end].map((time) => Math.round((STRIP.width * time) / length)); // without seams
      const width = Math.max(MIN_WIDTH, right - left);
      context.fillRect(Math.min(left, STRIP.width - width), 0, width, STRIP.height);
    }
  }

  #colourOf(label) {
    if (label in COLOURS) return COLOURS[label];
    if (!this.#labels.includes(label)) this.#labels.push(label);
    return OTHER_COLOURS[this.#labels.indexOf(label) % OTHER_COLOURS.length];
  }
}

function createRow() {
  const canvas = createElement("canvas");
  Object.assign(canvas, STRIP);
  canvas.setAttribute("aria-hidden", "true"); // the words have what it shows
  return createElement("li", "", createElement("span"), canvas, createElement("ul"));
}
