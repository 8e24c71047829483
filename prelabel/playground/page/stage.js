/** The picture with its boxes: shows, zooms, hits. */

import { draw } from "./drawing.js";
import { Viewport } from "./viewport.js";

const HIT_PX = 5; // a click this near to a box hits it
const WIDE_PX = 1600; // on wider stages, lines and letters are larger
const PIXELATED_FROM = 3; // screen pixels per pixel: single pixels can be told apart

export class Stage {
  /**
   * @param {HTMLElement} root
   * @param {{
   *   selected: (row: number | null) => void,
   *   hovered: (row: number | null) => void,
   *   zoomed: (scale: number) => void,
   *   scrollsPage: () => boolean,
   * }} hooks
   */
  constructor(root, hooks) {
    this.root = root;
    this.hooks = hooks;
    this.image = /** @type {HTMLImageElement} */ (root.querySelector("img"));
    this.canvas = /** @type {HTMLCanvasElement} */ (root.querySelector("canvas"));
    /** @type {import("./drawing.js").Drawn[]} */
    this.boxes = [];
    /** @type {number | null} */
    this.selected = null;
    /** @type {number | null} */
    this.hovered = null;
    /** @type {string | null} */
    this.spotlight = null;
    /** @type {{row: number, place: import("./tags.js").Rect}[]} */
    this.tags = [];
    this.frame = 0;
    this.hasPicture = false;
    this.viewport = new Viewport(root, {
      changed: () => this.#moved(),
      tapped: (x, y) => this.#tap(x, y),
      hovered: (x, y) => this.#hover(x, y),
      left: () => this.hooks.hovered(null),
      scrollsPage: hooks.scrollsPage,
    });
  }

  /** @param {import("./picture.js").Picture | null} picture */
  show(picture) {
    this.hasPicture = Boolean(picture);
    this.root.classList.toggle("is-empty", !picture);
    this.image.hidden = !picture?.width;
    if (!picture?.width) this.image.removeAttribute("src");
    if (picture?.width) {
      this.image.src = picture.url;
      this.resize(picture.width, picture.height);
    }
    this.redraw();
  }

  /** The size of the picture, in the pixels that boxes count. @param {number} width @param {number} height */
  resize(width, height) {
    if (this.viewport.wh[0] === width && this.viewport.wh[1] === height) {
      this.viewport.fit();
      return;
    }
    this.image.style.width = `${width}px`;
    this.image.style.height = `${height}px`;
    this.root.style.setProperty("--shape", String(height / width));
    this.viewport.show(width, height);
  }

  /** Draw before the next frame, once. */
  redraw() {
    if (!this.frame) this.frame = requestAnimationFrame(() => this.draw());
  }

  draw() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    const { canvas, viewport } = this;
    const ratio = devicePixelRatio;
    const [width, height] = [this.root.clientWidth, this.root.clientHeight];
    if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
    if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
    const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    this.tags = [];
    if (!this.hasPicture) return;
    this.tags = draw(context, {
      boxes: this.boxes,
      view: viewport,
      area: viewport.area,
      unit: Math.min(2, Math.max(1, width / WIDE_PX)),
      selected: this.selected,
      hovered: this.hovered,
      spotlight: this.spotlight,
    });
  }

  /** @param {KeyboardEvent} event @returns {boolean} true if the key moved the picture */
  key(event) {
    /** @type {Record<string, [number, number]>} */
    const moves = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] };
    const move = moves[event.key];
    if (!move || this.viewport.isFitted) return false;
    this.viewport.pan(...move);
    return true;
  }

  #moved() {
    const { x, y, scale } = this.viewport;
    this.image.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
    this.image.classList.toggle("is-large", scale >= PIXELATED_FROM);
    this.hooks.zoomed(scale);
    this.redraw();
  }

  /** @param {number} x @param {number} y pixels of the picture */
  #tap(x, y) {
    if (!this.hasPicture) return;
    const hits = this.#hits(x, y);
    // A click on the selected box selects the one behind it.
    const at = hits.indexOf(this.selected ?? -1);
    const next = hits[(at + 1) % hits.length] ?? null;
    this.hooks.selected(next === this.selected ? null : next);
  }

  /** @param {number} x @param {number} y pixels of the picture */
  #hover(x, y) {
    const hit = this.hasPicture ? (this.#hits(x, y)[0] ?? null) : null;
    this.root.classList.toggle("on-box", hit !== null);
    if (hit !== this.hovered) this.hooks.hovered(hit);
  }

  /** @param {number} x @param {number} y @returns {number[]} rows at a place: by tag, then the smallest */
  #hits(x, y) {
    const { viewport } = this;
    const [left, top] = [viewport.x + x * viewport.scale, viewport.y + y * viewport.scale];
    const byTag = this.tags
      .filter(({ place }) => left >= place.x && left <= place.x + place.width)
      .filter(({ place }) => top >= place.y && top <= place.y + place.height)
      .map(({ row }) => row);
    const near = HIT_PX / viewport.scale;
    const inBox = this.boxes
      .filter((box) => this.spotlight === null || box.label === this.spotlight)
      .filter(({ xyxy }) => x >= xyxy[0] - near && x <= xyxy[2] + near)
      .filter(({ xyxy }) => y >= xyxy[1] - near && y <= xyxy[3] + near)
      .sort((a, b) => areaOf(a) - areaOf(b))
      .map(({ row }) => row);
    return [...new Set([...byTag, ...inBox])];
  }
}

/** @param {import("./drawing.js").Drawn} box */
function areaOf({ xyxy }) {
  return (xyxy[2] - xyxy[0]) * (xyxy[3] - xyxy[1]);
}

/**
 * Draw the boxes into the picture, at the size of the picture; small pictures are enlarged.
 * @param {import("./picture.js").Picture} picture
 * @param {import("./drawing.js").Drawn[]} boxes
 * @returns {Promise<Blob>} PNG
 */
export async function drawnPicture(picture, boxes) {
  const longer = Math.max(picture.width, picture.height);
  const scale = Math.min(4, Math.max(1, Math.ceil(800 / longer)));
  const canvas = document.createElement("canvas");
  canvas.width = picture.width * scale;
  canvas.height = picture.height * scale;
  const context = canvas.getContext("2d");
  const image = new Image();
  image.src = picture.url;
  await image.decode();
  const area = { x: 0, y: 0, width: canvas.width, height: canvas.height };
  context?.drawImage(image, 0, 0, canvas.width, canvas.height);
  const unit = Math.max(1, Math.hypot(canvas.width, canvas.height) / 1200);
  if (context) draw(context, { boxes, view: { scale, x: 0, y: 0 }, area, unit });
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => {
      if (blob) resolve(blob);
      else reject(new Error("This browser cannot draw a picture of this size. Use a smaller one."));
    }, "image/png");
  });
}
