/** A film: the browser plays it, and the server reads single frames of it. */

import { shrink } from "../client.js";
import { Frames } from "./frames.js";
import { predictWithRetry } from "./request.js";
import { summarise } from "./result.js";
import { saveFile } from "./save.js";
import { Announcer, UserError, describeError, setError, showsError } from "./status.js";
import { Timeline } from "./timeline.js";

const JUMP_SECONDS = 0.5; // more than this between two frames that are shown is a step of the person
const FILM_NAME = /\.(mp4|m4v|mov|webm|mkv|avi)$/i; // systems do not know the type of all of them

export const isFilm = ({ name, type }) => type.startsWith("video/") || (!type && FILM_NAME.test(name));

/** Play a film and read what is shown, also after a step back or forth, until `signal` aborts. */
export async function readFilm(file, result, signal) {
  const video = await openFilm(file, signal);
  const film = new Film(file.name, video, result, signal);
  video.play().catch(() => {}); // a browser may leave that to the person
  await film.read();
}

/** A video of a file, whose size and length are known. */
async function openFilm(file, signal) {
  if (file.size === 0) throw new UserError("empty_file");
  const video = document.createElement("video");
  Object.assign(video, { controls: true, muted: true, playsInline: true, preload: "auto" });
  video.setAttribute("aria-label", file.name);
  const loading = new Promise((resolve) => {
    for (const name of ["loadedmetadata", "error"]) video.addEventListener(name, resolve, { once: true });
    signal.addEventListener("abort", resolve);
  });
  video.src = URL.createObjectURL(file);
  signal.addEventListener("abort", () => {
    video.pause();
    URL.revokeObjectURL(video.src);
    video.removeAttribute("src");
    video.load(); // which gives the memory of the film back
  });
  await loading;
  if (video.error || !video.videoWidth) throw new UserError("unplayableFilm"); // 0: the browser can only play its sound
  return video;
}

class Film {
  #frames = new Frames();
  #announcer = new Announcer();
  #waitsForToken = false;
  #jumps = 0; // steps back or forth so far
  #marked = null; // the frame whose boxes are shown

  constructor(name, video, result, signal) {
    Object.assign(this, { video, result, signal });
    this.shown = new ShownFrame(video, signal, () => this.#jump());
    this.timeline = new Timeline((share) => (video.currentTime = share * this.length));
    result.showMedia(video);
    result.showTimeline(this.timeline.element);
    result.addButton("saveCsv", () => {
      saveFile(new Blob([this.#frames.toCsv(name)], { type: "text/csv" }), name, "faces.csv");
    });
    this.#listen();
  }

  /** Seconds; without an end in its container, those so far. */
  get length() {
    const { duration, currentTime } = this.video;
    return Math.max(Number.isFinite(duration) ? duration : currentTime, this.#frames.end) || 1;
  }

  async read() {
    while (!this.signal.aborted) {
      const time = await this.shown.next();
      if (this.signal.aborted) return;
      const jumps = this.#jumps;
      try {
        const frame = this.#frames.find(time) ?? (await this.#readFrame(time));
        if (jumps === this.#jumps) this.#show(frame);
        else this.shown.forget(); // another frame is shown by now, or this one again
      } catch (error) {
        if (this.signal.aborted) return;
        this.video.pause(); // and what was read so far stays
        setError(...describeError(error));
      }
    }
  }

  /** Read the frame of this time. After a failure, the one that is then shown takes its place. */
  async #readFrame(time) {
    const copy = async () => {
      time ??= await this.shown.current();
      return shrink(this.video);
    };
    const onFailure = (error) => {
      time = null;
      this.#marked = null;
      this.result.clear();
      this.#waitsForToken ||= error.code === "unauthorized" && !this.video.paused;
      if (this.#waitsForToken) this.video.pause();
    };
    const reading = await predictWithRetry([copy], this.signal, { detect: "always", onFailure });
    if (this.#waitsForToken) this.video.play().catch(() => {});
    this.#waitsForToken = false;
    const frame = this.#frames.add(time, reading);
    this.timeline.show(this.#frames.histories, this.length);
    return frame;
  }

  #show(frame) {
    if (frame !== this.#marked) this.result.showReading(frame);
    this.#marked = frame;
    if (this.video.error) return; // its message stays
    if (this.video.ended) this.#announceEnd();
    else this.#announcer.announce(summarise(frame), this.video.paused);
  }

  #jump() {
    this.#jumps += 1;
    this.#marked = null;
    this.result.clearBoxes();
  }

  #announceEnd() {
    const faces = this.#frames.histories.length;
    this.#announcer.announce(faces ? ["filmEnded", { faces }] : ["filmWithoutFaces"], true);
  }

  #listen() {
    const { video, signal } = this;
    video.addEventListener("timeupdate", () => this.timeline.mark(video.currentTime / this.length));
    video.addEventListener("ended", () => {
      if (!showsError()) this.#announceEnd();
    });
    video.addEventListener("error", () => {
      if (!signal.aborted) setError("damagedFilm", { end: video.currentTime });
    });
    pauseWhileHidden(video, signal);
  }
}

/** Browsers draw no frames of a page that is hidden. A film that went on would have a gap. */
function pauseWhileHidden(video, signal) {
  let wasPlaying = false;
  const adapt = () => {
    if (document.hidden) {
      wasPlaying = !video.paused;
      video.pause();
    } else if (wasPlaying) {
      video.play().catch(() => {});
    }
  };
  document.addEventListener("visibilitychange", adapt);
  signal.addEventListener("abort", () => document.removeEventListener("visibilitychange", adapt));
}

/** The frame of a video that is shown: its `time` in seconds. `onJump` is called when it does not follow the one before. */
class ShownFrame {
  #taken; // the time that `next` gave last
  #wake = () => {};

  constructor(video, signal, onJump) {
    Object.assign(this, { video, signal, onJump });
    video.addEventListener("pause", () => this.#wake()); // also at the end
    signal.addEventListener("abort", () => this.#wake());
    this.#watch();
  }

  /** Wait for a frame that it has not given yet. Of a film that plays, it is one that has just appeared. */
  async next() {
    let isNew = this.video.paused && this.time !== this.#taken;
    while (!isNew && !this.signal.aborted) {
      await this.#change();
      isNew = this.time !== this.#taken;
    }
    this.#taken = this.time;
    return this.time;
  }

  /** The frame of a film that is paused; of one that plays, one that has just appeared. */
  async current() {
    if (!this.video.paused) await this.#change();
    this.#taken = this.time;
    return this.time;
  }

  /** Let `next` give the frame that is shown, also if it gave it before. */
  forget() {
    this.#taken = undefined;
  }

  #change() {
    return new Promise((resolve) => (this.#wake = resolve));
  }

  #watch() {
    const { video, signal } = this;
    const see = (time) => {
      if (signal.aborted) return;
      // The event "seeking" can come after the frame, on a busy machine.
      if (time < this.time || time > this.time + JUMP_SECONDS) this.onJump();
      this.time = time;
      this.#wake();
      this.#watch();
    };
    if (video.requestVideoFrameCallback) return video.requestVideoFrameCallback((_, { mediaTime }) => see(mediaTime));
    requestAnimationFrame(() => see(video.seeking || !video.currentTime ? this.time : video.currentTime)); // Firefox before 132
  }
}
