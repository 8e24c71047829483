/**
 * The choice of boxes for a position of the sliders: thresholds, suppression, limits.
 *
 * It repeats `select_detections` and `chosen_rows` of the library, so that the page shows the boxes
 * that POST /predict answers. NumPy compares float32 with float32, hence `Math.fround`: it rounds
 * each result as NumPy does.
 */

const f32 = Math.fround;
const SAME_OBJECT_IOU = 0.5; // of boxes that two parts of a tiled picture have of one object
const SMALLEST_PX = 1e-3; // the library drops smaller boxes; Label Studio could not show them

/**
 * Candidates of one answer, best score first. N boxes.
 * @typedef {object} Candidates
 * @property {number} count N
 * @property {Float32Array} boxesXyxy [N * 4] pixels of the upright picture, clipped to it
 * @property {Float32Array} scores [N]
 * @property {Float32Array} textScores [N] mean token probability of the phrase
 * @property {Int32Array} phraseIndex [N]
 * @property {Int32Array} groups [N] number of the box's label, -1 for boxes that are left out
 * @property {Int32Array | null} views [N] part of a tiled picture that the box was seen in
 *
 * @typedef {object} Thresholds
 * @property {number} box least score
 * @property {number} text least mean token probability
 * @property {number} nms greatest overlap (IoU) of two boxes that both stay
 * @property {boolean} agnostic boxes suppress boxes of other labels, too
 *
 * @typedef {object} Limits
 * @property {number} maxBoxes most boxes of a picture
 * @property {number} minBoxPx least width and height of a box
 *
 * @typedef {object} Selection
 * @property {number[]} rows the chosen candidates, best first
 * @property {number} over boxes over both thresholds
 * @property {number} suppressed of these, the ones that a better box suppressed
 */

/**
 * Pack an answer of POST candidates into arrays.
 * @param {any} answer
 * @returns {Candidates}
 */
export function pack(answer) {
  const count = answer.scores.length;
  const order = Array.from({ length: count }, (_, row) => row);
  const scores = Float32Array.from(answer.scores);
  order.sort((a, b) => scores[b] - scores[a] || a - b);
  const [width, height] = answer.image_wh;
  const groups = groupNumbers(answer.phrases);
  const boxesXyxy = new Float32Array(count * 4);
  order.forEach((row, place) => {
    const box = answer.boxes_xyxy[row];
    for (let side = 0; side < 4; side++) {
      const limit = side % 2 ? height : width;
      boxesXyxy[place * 4 + side] = Math.min(Math.max(f32(box[side]), 0), limit);
    }
  });
  const phrases = order.map((row) => answer.phrase_index[row]);
  return {
    count,
    boxesXyxy,
    scores: Float32Array.from(order, (row) => scores[row]),
    textScores: Float32Array.from(order, (row) => answer.text_scores[row]),
    phraseIndex: Int32Array.from(phrases),
    groups: Int32Array.from(phrases, (phrase) => groups[phrase]),
    views: answer.view_index && Int32Array.from(order, (row) => answer.view_index[row]),
  };
}

/**
 * @param {{label: string | null, dropped: boolean}[]} phrases
 * @returns {number[]} a number for each phrase; phrases of one label share it
 */
function groupNumbers(phrases) {
  /** @type {Map<string | null, number>} */
  const numbers = new Map();
  return phrases.map(({ label, dropped }) => {
    if (dropped) return -1;
    const number = numbers.get(label) ?? numbers.size;
    numbers.set(label, number);
    return number;
  });
}

/**
 * @param {Candidates} candidates
 * @param {Thresholds} thresholds
 * @param {Limits} limits
 * @returns {Selection}
 */
export function select(candidates, thresholds, limits) {
  const { groups } = candidates;
  const passing = mergeViews(candidates, overThresholds(candidates, thresholds));
  const sized = passing.filter((row) => groups[row] >= 0 && isLargeEnough(candidates, row, limits));
  const sameGroup = (/** @type {number} */ a, /** @type {number} */ b) =>
    thresholds.agnostic || groups[a] === groups[b];
  const kept = bestOfRivals(candidates, sized, thresholds.nms, sameGroup, limits.maxBoxes);
  return { rows: kept.rows, over: sized.length, suppressed: kept.suppressed };
}

/**
 * @param {Candidates} candidates
 * @param {Thresholds} thresholds
 * @returns {number[]}
 */
function overThresholds({ count, scores, textScores }, thresholds) {
  const leastScore = f32(thresholds.box);
  const leastText = f32(thresholds.text);
  const found = [];
  for (let row = 0; row < count; row++) {
    if (scores[row] >= leastScore && textScores[row] >= leastText) found.push(row);
  }
  return found;
}

/**
 * Of the boxes that several parts of a tiled picture have of one object, keep the best.
 * @param {Candidates} candidates
 * @param {number[]} rows
 * @returns {number[]}
 */
function mergeViews(candidates, rows) {
  const { phraseIndex, views } = candidates;
  if (!views) return rows;
  const rivals = (/** @type {number} */ a, /** @type {number} */ b) =>
    phraseIndex[a] === phraseIndex[b] && views[a] !== views[b];
  return bestOfRivals(candidates, rows, SAME_OBJECT_IOU, rivals, rows.length).rows;
}

/**
 * @param {Candidates} candidates
 * @param {number} row
 * @param {Limits} limits
 */
function isLargeEnough({ boxesXyxy: boxes }, row, { minBoxPx }) {
  const width = f32(boxes[row * 4 + 2] - boxes[row * 4]);
  const height = f32(boxes[row * 4 + 3] - boxes[row * 4 + 1]);
  return Math.min(width, height) >= f32(Math.max(minBoxPx, SMALLEST_PX));
}

/**
 * Suppress boxes greedily: a better box that stays drops its rivals that overlap it by more.
 * @param {Candidates} candidates
 * @param {number[]} rows best first
 * @param {number} threshold intersection over union
 * @param {(better: number, row: number) => boolean} areRivals
 * @param {number} most rows to keep
 * @returns {{rows: number[], suppressed: number}}
 */
function bestOfRivals({ boxesXyxy: boxes }, rows, threshold, areRivals, most) {
  const overlap = f32(threshold);
  /** @type {number[]} */
  const kept = [];
  let suppressed = 0;
  for (const row of rows) {
    if (kept.length === most) break;
    if (kept.some((better) => areRivals(better, row) && iou(boxes, better, row) > overlap)) {
      suppressed++;
    } else kept.push(row);
  }
  return { rows: kept, suppressed };
}

/**
 * @param {Float32Array} boxes [N * 4]
 * @param {number} a
 * @param {number} b
 * @returns {number} intersection over union of two boxes; 0 where both are empty
 */
export function iou(boxes, a, b) {
  const i = a * 4;
  const j = b * 4;
  const right = Math.min(boxes[i + 2], boxes[j + 2]);
  const bottom = Math.min(boxes[i + 3], boxes[j + 3]);
  const width = f32(right - Math.max(boxes[i], boxes[j]));
  const height = f32(bottom - Math.max(boxes[i + 1], boxes[j + 1]));
  if (width <= 0 || height <= 0) return 0;
  const intersection = f32(width * height);
  const union = f32(f32(area(boxes, i) + area(boxes, j)) - intersection);
  return union > 0 ? f32(intersection / union) : 0;
}

/**
 * @param {Float32Array} boxes
 * @param {number} start
 */
function area(boxes, start) {
  const width = Math.max(f32(boxes[start + 2] - boxes[start]), 0);
  return f32(width * Math.max(f32(boxes[start + 3] - boxes[start + 1]), 0));
}

/**
 * Count scores in bins of equal width.
 * @param {Float32Array} scores
 * @param {Int32Array} groups scores of the group -1 do not count
 * @param {number} low begin of the first bin
 * @param {number} bins
 * @returns {number[]} the last bin ends at 1
 */
export function histogram(scores, groups, low, bins) {
  const counts = new Array(bins).fill(0);
  scores.forEach((score, row) => {
    if (groups[row] < 0 || score < low) return;
    counts[Math.min(bins - 1, Math.floor(((score - low) / (1 - low)) * bins))]++;
  });
  return counts;
}
