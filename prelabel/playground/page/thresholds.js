/** The sliders of both thresholds and of suppression, with the service's defaults. */

import { Slider } from "./slider.js";

const NAMES = /** @type {const} */ (["box", "text", "nms"]);

export class ThresholdPanel {
  /**
   * @param {(id: string) => HTMLElement} part
   * @param {() => void} changed the values are other ones now
   */
  constructor(part, changed) {
    this.changed = changed;
    /** @type {import("./selection.js").Thresholds} */
    this.values = { box: 0, text: 0, nms: 1, agnostic: false };
    this.defaults = { ...this.values };
    this.floor = 0; // least score of the service's candidates
    this.agnostic = /** @type {HTMLInputElement} */ (part("agnostic"));
    this.reset = /** @type {HTMLButtonElement} */ (part("reset"));
    this.hint = part("box-hint");
    const slider = (/** @type {"box" | "text" | "nms"} */ name) =>
      new Slider(part(`slider-${name}`), (value) => this.#change({ [name]: value }));
    this.sliders = { box: slider("box"), text: slider("text"), nms: slider("nms") };
    this.agnostic.addEventListener("change", () =>
      this.#change({ agnostic: this.agnostic.checked }),
    );
    this.reset.addEventListener("click", () => this.set(this.defaults));
  }

  /** @param {any} facts of the service */
  start({ defaults, floor }) {
    this.defaults = {
      box: defaults.box_threshold,
      text: defaults.text_threshold,
      nms: defaults.nms_iou_threshold,
      agnostic: defaults.nms_class_agnostic,
    };
    this.floor = floor;
    this.sliders.box.startAt(floor);
  }

  /** @param {Partial<import("./selection.js").Thresholds>} values */
  set(values) {
    const { values: all } = this;
    Object.assign(all, values);
    for (const name of NAMES) {
      this.sliders[name].show(all[name]);
      all[name] = this.sliders[name].value;
    }
    this.agnostic.checked = all.agnostic;
    this.#change({});
  }

  /**
   * Draw the scores of new candidates. Those below the floor did not arrive.
   * @param {import("./selection.js").Candidates} candidates
   * @param {number} floor
   */
  show({ scores, textScores, groups }, floor) {
    this.sliders.box.startAt(floor);
    this.sliders.box.show(this.values.box);
    this.values.box = this.sliders.box.value;
    this.sliders.box.count(scores, groups);
    this.sliders.text.count(textScores, groups);
    const cut = `; below ${floor.toFixed(2)} there are too many to show`;
    this.hint.textContent = `least score of a box${floor > this.floor ? cut : ""}`;
  }

  clear() {
    for (const name of NAMES) this.sliders[name].count(new Float32Array(), new Int32Array());
  }

  /** Draw again with other colours. */
  redraw() {
    for (const name of NAMES) this.sliders[name].draw();
  }

  /** True if suppression is the one of the service's settings. */
  get suppressesAsService() {
    const { values, defaults } = this;
    return values.nms === defaults.nms && values.agnostic === defaults.agnostic;
  }

  /** @param {Partial<import("./selection.js").Thresholds>} changes */
  #change(changes) {
    const { values, defaults } = this;
    Object.assign(values, changes);
    const isSame = values.box === defaults.box && values.text === defaults.text;
    this.reset.disabled = isSame && this.suppressesAsService;
    this.changed();
  }
}
