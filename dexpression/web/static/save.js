/** Readings as JSON in the clipboard, and files to save, such as the picture with boxes and labels. */

import { text } from "./language.js";

const MIN_SIDE = 320; // smaller pictures are scaled up to it
const MAX_SIDE = 4096; // larger canvases stay empty on some phones

/** Whether a face is a whole picture that was treated as one face, so that its box shows nothing. */
export const isWholePicture = (face) => face.detection_confidence === null;

export async function copyText(content) {
  if (navigator.clipboard) return navigator.clipboard.writeText(content);
  const area = document.createElement("textarea"); // on HTTP, browsers give no clipboard
  area.value = content;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

export async function savePicture(media, reading, mirrored, name) {
  const canvas = drawReading(media, reading, mirrored);
  const picture = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.9));
  saveFile(picture, name, "faces.jpg");
}

/** Save a blob under the name of the file that it comes from, with another end. */
export function saveFile(blob, name, end) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${name.replace(/\.\w+$/, "")}-${end}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** Draw the picture with its boxes and labels; a picture that is one face has its label below it. */
function drawReading(media, { faces, image }, mirrored) {
  const scale = Math.min(MAX_SIDE, Math.max(MIN_SIDE, image.width, image.height)) / Math.max(image.width, image.height);
  const strip = faces.some(isWholePicture) ? image.width / 6 : 0;
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(image.width * scale);
  canvas.height = Math.round((image.height + strip) * scale);
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  context.save();
  if (mirrored) context.transform(-1, 0, 0, 1, image.width, 0);
  context.drawImage(media, 0, 0, image.width, image.height);
  context.restore();
  faces.forEach((face) => drawFace(context, face, image.width, mirrored));
  return canvas;
}

/** Draw a box, and above it a label that is as wide as the box if it can then be read. */
function drawFace(context, face, pictureWidth, mirrored) {
  const { box, result, confidence } = face;
  const left = mirrored ? pictureWidth - box.x - box.width : box.x;
  const line = box.width / 40;
  context.lineWidth = line;
  context.strokeStyle = context.fillStyle = "#ffd400";
  if (!isWholePicture(face)) context.strokeRect(left, box.y, box.width, box.height);
  const label = text("box", { label: result, confidence });
  context.font = "600 10px system-ui, sans-serif";
  const fitting = (10 * (box.width - 4 * line)) / context.measureText(label).width;
  const size = isWholePicture(face) ? fitting : Math.max(9, fitting);
  context.font = `600 ${size}px system-ui, sans-serif`;
  const width = Math.max(context.measureText(label).width + 4 * line, box.width + line);
  const top = isWholePicture(face) ? box.y + box.height : Math.max(0, box.y - 1.4 * size);
  const start = Math.max(0, Math.min(left - line / 2, pictureWidth - width));
  context.fillRect(start, top, width, 1.4 * size);
  context.fillStyle = "#1c1f24";
  context.fillText(label, start + 2 * line, top + 1.05 * size);
}
