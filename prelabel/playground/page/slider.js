/** A threshold: a slider with a number field, and a histogram of the scores below it. */

import { histogram } from "./selection.js";

const BINS = 60;

export class Slider {
  /**
   * @param {HTMLElement} root has an input of type range, one of type number, and maybe a canvas
   * @param {(value: number) => void} changed
   */
  constructor(root, changed) {
    this.range = /** @type {HTMLInputElement} */ (root.querySelector("input[type=range]"));
    this.number = /** @type {HTMLInputElement} */ (root.querySelector("input[type=number]"));
    this.canvas = root.querySelector("canvas");
    this.root = root;
    this.low = 0;
    this.value = 0;
    /** @type {number[]} */
    this.counts = [];
    this.range.addEventListener("input", () => {
      this.show(Number(this.range.value));
      changed(this.value);
    });
    this.number.addEventListener("input", () => {
      const typed = this.number.valueAsNumber;
      const isValid = typed >= this.low && typed <= 1;
      this.number.setAttribute("aria-invalid", String(!isValid));
      if (!isValid) return;
      this.value = typed;
      this.range.value = String(typed);
      this.draw();
      changed(typed);
    });
    this.number.addEventListener("blur", () => this.show(this.value));
    if (this.canvas) new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  /** The least value: candidates below it did not arrive. @param {number} low */
  startAt(low) {
    this.low = low;
    this.range.min = this.number.min = String(low);
  }

  /** @param {number} value */
  show(value) {
    this.value = Math.min(1, Math.max(this.low, value));
    this.range.value = String(this.value);
    this.number.value = String(Number(this.value.toFixed(4)));
    this.number.removeAttribute("aria-invalid");
    this.draw();
  }

  /**
   * @param {Float32Array} scores
   * @param {Int32Array} groups
   */
  count(scores, groups) {
    this.counts = histogram(scores, groups, this.low, BINS);
    this.draw();
  }

  /** Draw the histogram; bars of values that pass are coloured. */
  draw() {
    const { canvas } = this;
    const context = canvas?.getContext("2d");
    if (!canvas || !context) return;
    const ratio = devicePixelRatio;
    const { clientWidth: width, clientHeight: height } = canvas;
    if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
    if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    // Low scores are so many that only roots of the counts can be compared by eye.
    const most = Math.sqrt(Math.max(1, ...this.counts));
    const colours = getComputedStyle(canvas);
    const bar = width / BINS;
    this.counts.forEach((count, bin) => {
      if (!count) return;
      const passes = this.low + ((bin + 0.5) / BINS) * (1 - this.low) >= this.value;
      context.fillStyle = colours.getPropertyValue(passes ? "--bar-on" : "--bar-off");
      const tall = Math.max(1.5, (Math.sqrt(count) / most) * height);
      context.fillRect(bin * bar + 0.5, height - tall, Math.max(1, bar - 1), tall);
    });
  }
}
