/**
 * Pictures as arrays of bytes, decoded by the browser, and scaled as on the server: every byte is that of Pillow's
 * `reduce` and `resize` with its bilinear filter, which round as it is done here. A test compares them.
 */

import { UserError } from "./status.js";

const STRIP_PIXELS = 2_000_000; // that are copied out of a picture at once: some phones have no larger canvases than 16 megapixels
const WEIGHT_BITS = 22; // behind the point

/** Rows of pixels from the top; each pixel has `channels` bytes: 3 in RGB, 1 in grey. */
export class Pixels {
  constructor(width, height, channels, data = new Uint8Array(width * height * channels)) {
    Object.assign(this, { width, height, channels, data });
  }
}

/**
 * Decode a picture, upright by its EXIF orientation; transparent parts become white.
 *
 * Gives its `width`, its `height`, and its `pixels` in RGB, which are reduced to a half, a third and so on while the
 * shorter side keeps `minShortSide`.
 */
export async function decode(picture, minShortSide) {
  if (picture.size === 0) throw new UserError("empty_file");
  const options = { imageOrientation: "from-image", colorSpaceConversion: "none" }; // as Pillow, which ignores profiles
  const bitmap = await createImageBitmap(picture, options).catch(() => {
    throw new UserError("undecodableHere");
  });
  const { width, height } = bitmap;
  const factor = findFactor(Math.min(width, height), minShortSide, await isJpeg(picture));
  const pixels = new Pixels(Math.ceil(width / factor), Math.ceil(height / factor), 3);
  const rows = factor * Math.ceil(STRIP_PIXELS / (width * factor));
  for (let top = 0; top < height; top += rows) {
    const strip = reduce(copyStrip(bitmap, top, Math.min(rows, height - top)), factor, factor);
    pixels.data.set(strip.data, (top / factor) * strip.width * 3);
  }
  bitmap.close();
  return { width, height, pixels };
}

/** By how much a picture is reduced. The server decodes a JPEG in a half, a quarter or an eighth of its size first. */
function findFactor(shortSide, minShortSide, isJpeg) {
  const most = Math.max(1, Math.floor(shortSide / minShortSide));
  const first = isJpeg ? Math.min(8, 2 ** Math.floor(Math.log2(most))) : 1;
  return first * Math.floor(most / first);
}

async function isJpeg(picture) {
  const [first, second] = new Uint8Array(await picture.slice(0, 2).arrayBuffer());
  return first === 0xff && second === 0xd8;
}

function copyStrip(bitmap, top, rows) {
  const canvas = Object.assign(document.createElement("canvas"), { width: bitmap.width, height: rows });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#ffffff";
  context.fillRect(0, 0, canvas.width, rows);
  context.drawImage(bitmap, 0, -top);
  const { data } = context.getImageData(0, 0, canvas.width, rows);
  const strip = new Pixels(canvas.width, rows, 3);
  for (let from = 0, to = 0; from < data.length; from += 4, to += 3) {
    strip.data[to] = data[from];
    strip.data[to + 1] = data[from + 1];
    strip.data[to + 2] = data[from + 2];
  }
  return strip;
}

/** Replace each rectangle of `across` x `down` pixels by its mean; those at the right and at the bottom may be smaller. */
export function reduce(pixels, across, down) {
  if (across === 1 && down === 1) return pixels;
  const { width, height, channels, data } = pixels;
  const reduced = new Pixels(Math.ceil(width / across), Math.ceil(height / down), channels);
  const sums = new Uint32Array(reduced.width * channels);
  for (let row = 0; row < reduced.height; row += 1) {
    const [top, bottom] = [row * down, Math.min(height, (row + 1) * down)];
    sums.fill(0);
    for (let y = top, from = top * width * channels; y < bottom; y += 1) {
      for (let column = 0; column < reduced.width; column += 1) {
        for (let x = column * across; x < Math.min(width, (column + 1) * across); x += 1) {
          for (let channel = 0; channel < channels; channel += 1) sums[column * channels + channel] += data[from++];
        }
      }
    }
    for (let index = 0; index < sums.length; index += 1) {
      const column = Math.floor(index / channels);
      const count = (bottom - top) * (Math.min(width, (column + 1) * across) - column * across);
      const inverse = Math.trunc(Math.fround(2 ** 24 / count));
      reduced.data[row * sums.length + index] = ((sums[index] + (count >> 1)) * inverse) / 2 ** 24;
    }
  }
  return reduced;
}

/** Scale a part of a picture to `width` x `height`, with antialiasing; the sides of the part need not be whole pixels. */
export function resize(pixels, width, height, { left, top, right, bottom } = { left: 0, top: 0, right: pixels.width, bottom: pixels.height }) {
  const across = weigh(pixels.width, left, right, width);
  const down = weigh(pixels.height, top, bottom, height);
  const { channels, data } = pixels;
  const first = down[0].start; // the rows that the part needs, as wide as the result
  const rows = down[height - 1].start + down[height - 1].weights.length - first;
  const narrow = new Pixels(width, rows, channels);
  for (let row = 0, to = 0; row < rows; row += 1) {
    for (const { start, weights } of across) {
      for (let channel = 0; channel < channels; channel += 1) {
        const from = ((first + row) * pixels.width + start) * channels + channel;
        narrow.data[to++] = mix(data, from, channels, weights);
      }
    }
  }
  const scaled = new Pixels(width, height, channels);
  const stride = width * channels;
  for (let row = 0, to = 0; row < height; row += 1) {
    const { start, weights } = down[row];
    for (let index = 0; index < stride; index += 1) scaled.data[to++] = mix(narrow.data, (start - first) * stride + index, stride, weights);
  }
  return scaled;
}

function mix(data, from, stride, weights) {
  let sum = 1 << (WEIGHT_BITS - 1); // so that it is rounded
  for (let index = 0; index < weights.length; index += 1) sum += weights[index] * data[from + index * stride];
  return sum >> WEIGHT_BITS;
}

/** For each of `count` places along a side, the first pixel of the `length` pixels that it is mixed of, and their weights. */
function weigh(length, start, end, count) {
  const begin = Math.fround(start);
  const step = Math.fround(Math.fround(end) - begin) / count;
  const reach = Math.max(1, step);
  return Array.from({ length: count }, (_, place) => {
    const centre = begin + (place + 0.5) * step;
    const first = Math.max(0, Math.trunc(centre - reach + 0.5));
    const last = Math.min(length, Math.trunc(centre + reach + 0.5));
    const weights = Float64Array.from({ length: last - first }, (_, index) => Math.max(0, 1 - Math.abs(first + index - centre + 0.5) / reach));
    const sum = weights.reduce((total, weight) => total + weight, 0);
    return { start: first, weights: Int32Array.from(weights, (weight) => (weight / sum) * (1 << WEIGHT_BITS) + 0.5) };
  });
}

export function toGrey({ width, height, data }) {
  const grey = new Pixels(width, height, 1);
  for (let index = 0; index < grey.data.length; index += 1) {
    const [red, green, blue] = [data[3 * index], data[3 * index + 1], data[3 * index + 2]];
    grey.data[index] = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16;
  }
  return grey;
}

/** The whole number that is next; of two, the even one, as in Python. */
export function roundEven(value) {
  const rounded = Math.round(value);
  return Math.abs(value % 1) === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}
