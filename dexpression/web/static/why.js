/** The switch "Why?": where a face speaks for its label and where against it, as a map over the face and in words. */

import { write } from "./language.js";
import { createElement } from "./result.js";
import { describeError, setError, setStatus } from "./status.js";

const [FOR, AGAINST] = [[208, 28, 139], [77, 172, 38]]; // the colours of dexpression/annotation.py, with the reason there
const STRONGEST = 0.7; // opacity of the strongest evidence of a face
const MOST = 0.45; // share of the evidence from which a third of the face is named alone
const ONE_SIDE = 0.65; // the same for a half
const THIRDS = ["eyesRegion", "noseRegion", "mouthRegion"]; // from the top

/** Add the switch to a picture's result; `ask` gets the reading with evidence when it is switched on first. */
export function addWhySwitch(result, ask) {
  let shown = [];
  let reading = null;
  const button = result.addButton("why", async () => {
    if (shown.length) {
      shown.forEach((element) => element.remove());
      shown = [];
    } else {
      button.disabled = true;
      try {
        reading ??= await ask();
        shown = reading.faces.flatMap((face, index) => showEvidence(result, face, index, reading.image));
        setStatus(...describeEvidence(reading.faces[0]));
      } catch (error) {
        if (result.element.isConnected) setError(...describeError(error));
      }
      button.disabled = false;
    }
    button.setAttribute("aria-pressed", String(shown.length > 0));
  });
  button.setAttribute("aria-pressed", "false");
}

/** Lay the map of a face over the picture, and write its words into the card; returns both elements. */
function showEvidence(result, face, index, image) {
  const map = drawMap(face.evidence, image);
  const words = createElement("p", "why-words");
  write(words, ...describeEvidence(face));
  result.media.after(map);
  result.faces.children[index].querySelector("summary").after(words);
  return [map, words];
}

const answeredGrid = ({ maps }) => Object.values(maps)[0];

/** A canvas with one pixel for each place, which the browser scales to the size of the face and thereby smooths. */
function drawMap(evidence, image) {
  const { box } = evidence;
  const grid = answeredGrid(evidence);
  const map = createElement("canvas", "why-map");
  [map.width, map.height] = [grid[0].length, grid.length];
  const pixels = new ImageData(map.width, map.height);
  const strongest = Math.max(...grid.flat().map(Math.abs)) || 1;
  grid.flat().forEach((value, place) => {
    const opacity = (255 * STRONGEST * Math.abs(value)) / strongest;
    pixels.data.set([...(value > 0 ? FOR : AGAINST), opacity], 4 * place);
  });
  map.getContext("2d").putImageData(pixels, 0, 0);
  map.style.left = `${(100 * box.x) / image.width}%`;
  map.style.top = `${(100 * box.y) / image.height}%`;
  map.style.width = `${(100 * box.width) / image.width}%`;
  map.style.height = `${(100 * box.height) / image.height}%`;
  map.setAttribute("aria-hidden", "true"); // the card says it in words
  return map;
}

/** The key and the values of the text that says which part of a face speaks for its label. */
export function describeEvidence({ result: label, evidence }) {
  const grid = answeredGrid(evidence).map((row) => row.map((value) => Math.max(0, value)));
  const total = sum(grid.flat());
  if (!total) return ["whyNothing", { label }];
  const thirds = THIRDS.map((_, third) => sum(grid.filter((_row, row) => Math.floor((3 * row) / grid.length) === third).flat()) / total);
  const largest = thirds.indexOf(Math.max(...thirds));
  const left = sum(grid.flatMap((row) => row.slice(0, row.length / 2))) / total;
  const side = left >= ONE_SIDE ? "leftSide" : left <= 1 - ONE_SIDE ? "rightSide" : "bothSides";
  return ["whyMostly", { label, region: thirds[largest] >= MOST ? THIRDS[largest] : "wholeRegion", side }];
}

const sum = (values) => values.reduce((total, value) => total + value, 0);
