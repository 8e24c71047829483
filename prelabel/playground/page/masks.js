/** Masks of the shown boxes: requested when the sliders rest, kept for each box. */

import { masks } from "./service.js";

const REST_MS = 250;
const MOST_BOXES = 100; // of one request

export class Masks {
  /**
   * @param {{changed: () => void, failed: (error: Error) => void}} hooks
   */
  constructor(hooks) {
    this.hooks = hooks;
    /** @type {Map<number, number[][][]>} rings by row of the candidates, pixels of the picture */
    this.rings = new Map();
    this.controller = new AbortController();
    this.timer = 0;
    this.isRunning = false;
    /** @type {() => Promise<object>} */
    this.picture = async () => ({});
    /** @type {Float32Array} */
    this.boxesXyxy = new Float32Array();
    /** @type {number[]} */
    this.wanted = [];
  }

  /**
   * Forget all masks: the candidates are new.
   * @param {() => Promise<object>} picture as requests carry it
   * @param {Float32Array} boxesXyxy
   */
  restart(picture, boxesXyxy) {
    this.controller.abort();
    clearTimeout(this.timer);
    this.controller = new AbortController();
    this.isRunning = false;
    this.rings = new Map();
    this.picture = picture;
    this.boxesXyxy = boxesXyxy;
    this.wanted = [];
  }

  /** @param {number[]} rows the boxes that are shown now */
  want(rows) {
    this.wanted = rows;
    clearTimeout(this.timer);
    if (this.missing.length) this.timer = setTimeout(() => this.#fetch(), REST_MS);
  }

  get missing() {
    return this.wanted.filter((row) => !this.rings.has(row));
  }

  async #fetch() {
    if (this.isRunning) return;
    const { controller } = this;
    this.isRunning = true;
    this.hooks.changed();
    try {
      for (let rows = this.missing; rows.length; rows = this.missing) {
        await this.#fetchSome(rows.slice(0, MOST_BOXES), controller);
      }
    } catch (error) {
      if (controller !== this.controller) return;
      this.wanted = [];
      this.hooks.failed(/** @type {Error} */ (error));
    } finally {
      if (controller === this.controller) {
        this.isRunning = false;
        this.hooks.changed();
      }
    }
  }

  /** @param {number[]} rows @param {AbortController} controller */
  async #fetchSome(rows, controller) {
    const boxes = rows.map((row) => Array.from(this.boxesXyxy.slice(row * 4, row * 4 + 4)));
    const body = { ...(await this.picture()), boxes_xyxy: boxes };
    controller.signal.throwIfAborted();
    const { polygons } = await masks(body, controller.signal);
    controller.signal.throwIfAborted();
    rows.forEach((row, index) => this.rings.set(row, polygons[index] ?? []));
    this.hooks.changed();
  }
}
