/** An answer of the service, and the boxes that a position of the sliders shows of it. */

import { styleOf } from "./palette.js";
import { pack, select } from "./selection.js";

const NO_LABEL = { colour: "#8a919c", ink: "#000000", dash: [1, 2] };

export class Results {
  /** @param {any} answer of POST candidates */
  constructor(answer) {
    this.answer = answer;
    this.candidates = pack(answer);
    /** @type {[number, number]} */
    this.imageWh = answer.image_wh;
    /** @type {string[]} */
    this.labels = answer.labels;
    /** @type {Map<string, import("./palette.js").Style>} */
    this.styles = new Map(this.labels.map((label, index) => [label, styleOf(index)]));
    /** @type {import("./selection.js").Selection} */
    this.selection = { rows: [], over: 0, suppressed: 0 };
    /** @type {Map<number, import("./panel.js").Shown>} */
    this.made = new Map();
  }

  /**
   * @param {import("./selection.js").Thresholds} thresholds
   * @param {import("./selection.js").Limits} limits
   * @returns {import("./panel.js").Shown[]} best first
   */
  show(thresholds, limits) {
    this.selection = select(this.candidates, thresholds, limits);
    return this.selection.rows.map((row) => this.box(row));
  }

  /** @param {number} row @returns {import("./panel.js").Shown} */
  box(row) {
    const known = this.made.get(row);
    if (known) return known;
    const { boxesXyxy, scores, textScores, phraseIndex } = this.candidates;
    const { phrase, label } = this.answer.phrases[phraseIndex[row]];
    const xyxy = Array.from(boxesXyxy.subarray(row * 4, row * 4 + 4));
    const box = {
      row,
      label: label ?? phrase,
      realLabel: label,
      phrase,
      score: scores[row],
      textScore: textScores[row],
      xyxy,
      width: xyxy[2] - xyxy[0],
      height: xyxy[3] - xyxy[1],
      style: (label !== null && this.styles.get(label)) || NO_LABEL,
    };
    this.made.set(row, box);
    return box;
  }

  /** Candidates that can be shown. */
  get possible() {
    return this.candidates.groups.reduce((count, group) => count + Number(group >= 0), 0);
  }

  /** The best candidate that can be shown, or null. @returns {number | null} row */
  get best() {
    const row = this.candidates.groups.findIndex((group) => group >= 0);
    return row < 0 ? null : row;
  }

  /**
   * @param {import("./panel.js").Shown[]} boxes
   * @returns {{label: string, count: number, style: import("./palette.js").Style}[]}
   */
  legend(boxes) {
    const counts = new Map(this.labels.map((label) => [label, 0]));
    for (const { label } of boxes) counts.set(label, (counts.get(label) ?? 0) + 1);
    return [...counts].map(([label, count]) => ({
      label,
      count,
      style: this.styles.get(label) ?? NO_LABEL,
    }));
  }
}
