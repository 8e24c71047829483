/** The boxes of the current answer: on the picture, in the legend and in the table, in step. */

import { Masks } from "./masks.js";
import { showFacts, showLegend } from "./panel.js";
import { Stage } from "./stage.js";
import { BoxTable } from "./table.js";

const ANNOUNCE_MS = 700;

/** @typedef {import("./panel.js").Shown} Shown */

export class Boxes {
  /**
   * @param {(id: string) => any} part
   * @param {import("./thresholds.js").ThresholdPanel} thresholds
   * @param {{masksChanged: (isRunning: boolean) => void, failed: (error: Error) => void}} hooks
   */
  constructor(part, thresholds, hooks) {
    this.part = part;
    this.thresholds = thresholds;
    /** @type {import("./selection.js").Limits} */
    this.limits = { maxBoxes: 0, minBoxPx: 0 };
    /** @type {import("./results.js").Results | null} */
    this.results = null;
    /** @type {Shown[]} best first */
    this.shown = [];
    /** @type {number | null} row of the selected box */
    this.selected = null;
    /** @type {string | null} label whose boxes are seen alone */
    this.spotlight = null;
    this.showsMasks = false;
    this.frame = 0;
    this.movedAt = 0; // when the sliders moved that the next frame shows
    this.announcement = 0;
    const choices = {
      selected: (/** @type {number | null} */ row) => this.select(row),
      hovered: (/** @type {number | null} */ row) => this.#hover(row),
    };
    this.stage = new Stage(part("stage"), {
      ...choices,
      zoomed: (scale) => {
        part("zoom").textContent = this.stage?.hasPicture ? `${Math.round(scale * 100)} %` : "";
      },
      scrollsPage: () => matchMedia("(max-width: 899px)").matches,
    });
    this.table = new BoxTable(part("table"), choices);
    this.masks = new Masks({
      changed: () => {
        hooks.masksChanged(this.masks.isRunning);
        this.#draw();
      },
      failed: hooks.failed,
    });
  }

  /**
   * Show the candidates of an answer.
   * @param {import("./results.js").Results} results
   * @param {() => Promise<object>} picture as requests carry it
   */
  show(results, picture) {
    this.#forget();
    this.results = results;
    const { candidates, imageWh } = results;
    const body = async () => ({ ...(await picture()), image_wh: imageWh });
    this.masks.restart(body, candidates.boxesXyxy);
    this.thresholds.show(candidates, results.answer.floor);
    this.stage.root.classList.remove("is-empty");
    this.stage.resize(...imageWh);
    this.update();
  }

  clear() {
    this.#forget();
    this.results = null;
    this.shown = [];
    this.masks.restart(async () => ({}), new Float32Array());
    this.thresholds.clear();
    clearTimeout(this.announcement);
    this.part("numbers").hidden = true;
    this.part("legend").replaceChildren();
    for (const id of ["count-more", "live"]) this.part(id).textContent = "";
    this.part("count").textContent = "Boxes";
    this.#draw();
  }

  #forget() {
    this.selected = this.spotlight = this.stage.hovered = null;
    this.table.clear();
  }

  /** Show the boxes for the sliders in the next frame. */
  schedule() {
    this.movedAt ||= performance.now();
    this.frame ||= requestAnimationFrame(() => this.update());
  }

  /** Choose the boxes for the sliders and show them, all within one frame. */
  update() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    const { results, part } = this;
    if (results) {
      this.shown = results.show(this.thresholds.values, this.limits);
      if (!this.shown.some(({ row }) => row === this.selected)) this.selected = null;
      showLegend(part("legend"), results.legend(this.shown), this.spotlight, (label) => {
        this.spotlight = this.spotlight === label ? null : label;
        this.update();
      });
      this.#showCount(results);
      this.table.show(this.#inSpotlight());
      part("numbers").hidden = !this.shown.length;
      this.#showSelected(false);
      this.#draw();
      this.stage.draw();
      if (this.showsMasks) this.masks.want(this.shown.map(({ row }) => row));
    }
    if (!this.movedAt) return;
    // The time from the slider to the drawing, for the browser's own tools and for the tests.
    performance.clearMeasures("prelabel-slider");
    performance.measure("prelabel-slider", { start: this.movedAt, end: performance.now() });
    this.movedAt = 0;
  }

  /** @param {number | null} row */
  select(row) {
    this.selected = row;
    const box = this.shown.find((each) => each.row === row);
    if (box) this.stage.viewport.reveal(box.xyxy);
    this.#showSelected(true);
    this.#draw();
  }

  /** @param {1 | -1} step */
  selectNext(step) {
    const shown = this.#inSpotlight();
    if (!shown.length) return;
    const at = shown.findIndex(({ row }) => row === this.selected);
    const first = step > 0 ? 0 : shown.length - 1;
    const next = at < 0 ? first : (at + step + shown.length) % shown.length;
    const { row, label, score } = shown[next];
    this.select(row);
    const place = `${next + 1} of ${shown.length}`;
    this.part("live").textContent = `${label}, score ${score.toFixed(2)}, box ${place}`;
  }

  #inSpotlight() {
    return this.shown.filter(({ label }) => this.spotlight === null || label === this.spotlight);
  }

  #draw() {
    const { stage, masks, showsMasks } = this;
    stage.boxes = this.shown.map((box) => ({
      ...box,
      rings: showsMasks ? (masks.rings.get(box.row) ?? null) : null,
    }));
    stage.selected = this.selected;
    stage.spotlight = this.spotlight;
    stage.redraw();
  }

  /** @param {import("./results.js").Results} results */
  #showCount({ selection, possible }) {
    const under = possible - selection.over;
    const count = this.shown.length === 1 ? "1 box" : `${this.shown.length} boxes`;
    const more = [
      under && `${under} below the thresholds`,
      selection.suppressed && `${selection.suppressed} suppressed`,
    ].filter(Boolean);
    this.part("count").textContent = count;
    this.part("count-more").textContent = more.join(", ");
    clearTimeout(this.announcement);
    this.announcement = setTimeout(() => {
      this.part("live").textContent = [count, ...more].join(", ");
    }, ANNOUNCE_MS);
  }

  /** @param {boolean} scrolls */
  #showSelected(scrolls) {
    const box = this.shown.find(({ row }) => row === this.selected) ?? null;
    this.table.select(this.selected, scrolls);
    showFacts(this.part("facts"), box, this.results?.imageWh ?? [1, 1]);
  }

  /** @param {number | null} row */
  #hover(row) {
    if (row === this.stage.hovered) return;
    this.stage.hovered = row;
    for (const [number, line] of this.table.made) {
      line.classList.toggle("is-hovered", number === row);
    }
    this.stage.redraw();
  }
}
