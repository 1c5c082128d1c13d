/** One picture on the page, or the frame that is shown of a video: its faces in boxes, a card for each face, and buttons. */

import { percent, write, writeLabel } from "./language.js";
import { copyText, isWholePicture, savePicture } from "./save.js";

const CROWD = 5; // from this number of faces on, boxes show numbers alone, and cards are folded
const SMALL_SIDE = 320; // smaller pictures are scaled up to it, in CSS pixels
const COPIED_MS = 2_000;

export function createElement(name, className, ...children) {
  const element = document.createElement(name);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

/** The key and the values of the text that says how many faces a reading has, and which emotions. */
export function summarise({ faces }) {
  if (faces.length === 0) return ["noFace"];
  if (faces.length === 1) return ["oneFace", { label: faces[0].result }];
  return ["manyFaces", { faces: faces.length, counts: countResults(faces) }];
}

/** How often each result occurs, the most frequent one first: [["HAPPY", 15], ["NEUTRAL", 4]]. */
export function countResults(faces) {
  const counts = new Map();
  faces.forEach(({ result }) => counts.set(result, (counts.get(result) ?? 0) + 1));
  return [...counts].sort((one, other) => other[1] - one[1]);
}

/** Whether a card has bars for the labels of a face, which change with the model. */
function hasLabels(card, face) {
  const shown = [...card.querySelectorAll(".bars li")].map((bar) => bar.firstChild.textContent);
  return shown.join("\n") === Object.keys(face.probabilities).join("\n");
}

export class Result {
  /** `name` is that of the file. It is shown, with a summary, if there are several pictures. */
  constructor(name, isOneOfSeveral) {
    this.name = name;
    this.isCrowd = false;
    this.activeFace = null;
    this.stage = createElement("div", "stage");
    this.buttons = createElement("div", "buttons");
    this.readingButtons = [this.addButton("copy", this.#copy), this.addButton("save", this.#save)];
    this.view = createElement("div", "view", this.stage, this.buttons);
    this.title = createElement("h2", "", name);
    this.summary = createElement("p", "summary");
    this.advice = createElement("p", "summary");
    write(this.advice, "noFaceAdvice");
    this.faces = createElement("ol", "faces");
    writeLabel(this.faces, "faceList");
    const words = createElement("div", "words", this.title, this.summary, this.advice, this.faces);
    this.element = createElement("article", "result", this.view, words);
    this.title.hidden = this.summary.hidden = !isOneOfSeveral;
    this.view.hidden = this.advice.hidden = true;
    this.#setSavable(false);
    this.#linkFaces();
    new ResizeObserver(() => this.#fitLabels()).observe(this.stage);
  }

  /** Show an image or a video, without boxes. */
  showMedia(media) {
    this.media = media;
    const [width, height] = [media.naturalWidth ?? media.videoWidth, media.naturalHeight ?? media.videoHeight];
    if (width && Math.max(width, height) < SMALL_SIDE) {
      media.style.width = `${(SMALL_SIDE * width) / Math.max(width, height)}px`;
    }
    this.stage.replaceChildren(media);
    this.view.hidden = false;
  }

  /** Show the timeline of a film below its video. */
  showTimeline(timeline) {
    this.element.classList.add("film");
    this.stage.after(timeline);
  }

  /** Faces that are followed are listed by the number of their track, so that each stays at its place. */
  showReading(reading, mirrored = false) {
    Object.assign(this, { reading, mirrored });
    const { image } = reading;
    const isFollowed = reading.faces.some(({ track }) => track);
    const faces = isFollowed ? [...reading.faces].sort((one, other) => one.track - other.track) : reading.faces;
    if (isFollowed) writeLabel(this.faces, "trackList");
    this.#fold(faces.length >= CROWD);
    this.element.classList.toggle("alone", faces.length === 1); // its label needs no number
    this.clearBoxes();
    this.stage.append(...faces.map((face, index) => createBox(face, numberOf(face, index), image, mirrored)));
    while (this.faces.children.length > faces.length) this.faces.lastChild.remove();
    faces.forEach((face, index) => this.#updateCard(face, index));
    this.#fitLabels();
    this.#activate(this.activeFace);
    write(this.summary, ...summarise(reading));
    this.advice.hidden = faces.length > 0;
    this.#setSavable(Boolean(this.media));
  }

  /** Remove the boxes and cards of the last reading. */
  clear() {
    this.clearBoxes();
    this.faces.replaceChildren();
    this.advice.hidden = true;
    this.#setSavable(false);
  }

  clearBoxes() {
    this.stage.querySelectorAll(".box").forEach((box) => box.remove());
  }

  #setSavable(isSavable) {
    this.readingButtons.forEach((button) => (button.hidden = !isSavable));
  }

  showError(key, values) {
    write(this.summary, key, values);
    this.summary.classList.add("error");
  }

  #fold(isCrowd) {
    if (isCrowd === this.isCrowd) return;
    this.isCrowd = isCrowd;
    this.element.classList.toggle("crowd", isCrowd);
    this.faces.querySelectorAll("details").forEach((card) => (card.open = !isCrowd));
  }

  /* Cards are updated in place, so that a reader or a screen reader keeps its position from frame to frame. */
  #updateCard(face, index) {
    let card = this.faces.children[index];
    if (!card || !hasLabels(card, face)) {
      const made = createCard(face, !this.isCrowd);
      card ? card.replaceWith(made) : this.faces.append(made);
      card = made;
    }
    const number = numberOf(face, index);
    card.dataset.face = number;
    write(card.querySelector("h3"), "face", { number, label: face.result, confidence: face.confidence });
    Object.values(face.average ?? face.probabilities).forEach((probability, row) => {
      const bar = card.querySelectorAll(".bars li")[row];
      bar.querySelector(".track div").style.width = `${100 * probability}%`;
      bar.lastChild.textContent = percent(probability);
    });
  }

  /** Show the number alone where the label is wider than its box, and everywhere in a crowd. */
  #fitLabels() {
    for (const box of this.stage.querySelectorAll(".box")) {
      box.classList.toggle("numbered", this.isCrowd);
      box.classList.toggle("numbered", this.isCrowd || box.firstChild.offsetWidth > box.offsetWidth);
    }
  }

  /** Mark a face's box and card together while the pointer or the focus is on one of them. */
  #linkFaces() {
    const find = (event) => event.target.closest("[data-face]")?.dataset.face ?? null;
    for (const name of ["pointerover", "focusin"]) {
      this.element.addEventListener(name, (event) => this.#activate(find(event)));
    }
    for (const name of ["pointerleave", "focusout"]) this.element.addEventListener(name, () => this.#activate(null));
    this.stage.addEventListener("click", (event) => {
      const card = this.faces.querySelector(`[data-face="${find(event)}"] details`);
      if (!card) return;
      card.open = true;
      card.querySelector("summary").focus();
    });
  }

  #activate(face) {
    this.activeFace = face;
    this.element.querySelectorAll("[data-face]").forEach((element) => {
      element.classList.toggle("active", element.dataset.face === face);
    });
  }

  /** Add a button that calls `action(button)`. */
  addButton(key, action) {
    const button = createElement("button", "button quiet");
    button.type = "button";
    write(button, key);
    button.addEventListener("click", () => action.call(this, button));
    this.buttons.append(button);
    return button;
  }

  async #copy(button) {
    await copyText(JSON.stringify(this.reading, null, 2));
    write(button, "copied");
    setTimeout(() => write(button, "copy"), COPIED_MS);
  }

  async #save() {
    await savePicture(this.media, this.reading, this.mirrored, this.name);
  }
}

/** The number of a face: that of its track, or its place in the list. */
const numberOf = (face, index) => face.track ?? index + 1;

function createBox(face, number, image, mirrored) {
  const { box, result } = face;
  const words = createElement("span");
  write(words, result);
  const label = createElement("span", "label", createElement("b", "", String(number)), words);
  const element = createElement("div", "box", label);
  const left = mirrored ? image.width - box.x - box.width : box.x;
  element.style.left = `${(100 * left) / image.width}%`;
  element.style.top = `${(100 * box.y) / image.height}%`;
  element.style.width = `${(100 * box.width) / image.width}%`;
  element.style.height = `${(100 * box.height) / image.height}%`;
  element.classList.toggle("label-below", box.y < image.height / 10);
  element.classList.toggle("label-right", left > image.width / 2);
  element.classList.toggle("whole", isWholePicture(face)); // without a label, which would cover it
  element.dataset.face = number;
  element.setAttribute("aria-hidden", "true"); // the cards have the same text
  return element;
}

function createCard(face, isOpen) {
  const bars = Object.keys(face.probabilities).map((label) => {
    const name = createElement("span");
    write(name, label);
    const track = createElement("div", "track", createElement("div"));
    track.setAttribute("aria-hidden", "true");
    return createElement("li", "", name, track, createElement("span"));
  });
  const summary = createElement("summary", "", createElement("h3"));
  const card = createElement("details", "", summary, createElement("ul", "bars", ...bars));
  card.open = isOpen;
  return createElement("li", "", card);
}
