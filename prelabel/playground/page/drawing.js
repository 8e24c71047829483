/** Draws boxes, masks and tags, on the screen and into the picture that is downloaded. */

import { translucent } from "./palette.js";
import { placeTags } from "./tags.js";

const FONT = '600 12px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif';
const TAG_HEIGHT = 18;
const TAG_PADDING = 5;
const LONGEST_TAG = 240;
const FAINT = 0.3;

/**
 * @typedef {object} Drawn
 * @property {number} row number of the candidate
 * @property {ArrayLike<number>} xyxy pixels of the picture
 * @property {string} label
 * @property {number} score
 * @property {import("./palette.js").Style} style
 * @property {number[][][] | null} rings mask, in pixels of the picture
 *
 * @typedef {object} Scene
 * @property {Drawn[]} boxes best first
 * @property {{scale: number, x: number, y: number}} view place of the picture on the canvas
 * @property {import("./tags.js").Rect} area part of the canvas that shows the picture
 * @property {number | null} [selected] row
 * @property {number | null} [hovered] row
 * @property {string | null} [spotlight] boxes of other labels are faint
 * @property {number} [unit] size of a pixel of lines and letters
 */

/**
 * Draw a scene; the best boxes come on top.
 * @param {CanvasRenderingContext2D} context
 * @param {Scene} scene
 * @returns {{row: number, place: import("./tags.js").Rect}[]} the tags
 */
export function draw(context, scene) {
  const unit = scene.unit ?? 1;
  const boxes = scene.boxes.map((box) => ({ box, rect: onCanvas(box.xyxy, scene.view) }));
  context.save();
  context.beginPath();
  context.rect(scene.area.x, scene.area.y, scene.area.width, scene.area.height);
  context.clip();
  context.lineJoin = "round";
  for (const { box, rect } of [...boxes].reverse()) {
    context.globalAlpha = isFaint(box, scene) ? FAINT : 1;
    if (box.rings) drawMask(context, box, scene, unit);
    drawOutline(context, rect, box, scene, unit);
  }
  const tags = drawTags(context, boxes, scene, unit);
  context.restore();
  return tags;
}

/** @param {ArrayLike<number>} xyxy @param {Scene["view"]} view */
export function onCanvas(xyxy, view) {
  const x = view.x + xyxy[0] * view.scale;
  const y = view.y + xyxy[1] * view.scale;
  const width = (xyxy[2] - xyxy[0]) * view.scale;
  return { x, y, width, height: (xyxy[3] - xyxy[1]) * view.scale };
}

/** @param {Drawn} box @param {Scene} scene */
function isFaint(box, scene) {
  if (box.row === scene.selected || box.row === scene.hovered) return false;
  return scene.spotlight != null && scene.spotlight !== box.label;
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {import("./tags.js").Rect} rect
 * @param {Drawn} box
 * @param {Scene} scene
 * @param {number} unit
 */
function drawOutline(context, rect, box, scene, unit) {
  const isSelected = box.row === scene.selected;
  const width = (isSelected ? 4 : box.row === scene.hovered ? 3.5 : 2.25) * unit;
  const stroke = (/** @type {string} */ colour, /** @type {number} */ line) => {
    context.strokeStyle = colour;
    context.lineWidth = line;
    context.strokeRect(rect.x, rect.y, rect.width, rect.height);
  };
  context.setLineDash([]);
  // The casing lifts the line off any picture.
  if (isSelected) stroke("#000000", width + 6 * unit);
  const casing = isSelected ? "#ffffff" : box.style.ink;
  stroke(casing, width + (isSelected ? 4 : 1.75) * unit);
  context.setLineDash(box.style.dash.map((length) => length * width));
  stroke(box.style.colour, width);
  context.setLineDash([]);
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Drawn} box
 * @param {Scene} scene
 * @param {number} unit
 */
function drawMask(context, box, { view }, unit) {
  const path = new Path2D();
  for (const ring of box.rings ?? []) {
    ring.forEach(([x, y], index) => {
      const at = /** @type {const} */ ([view.x + x * view.scale, view.y + y * view.scale]);
      if (index) path.lineTo(...at);
      else path.moveTo(...at);
    });
    path.closePath();
  }
  context.fillStyle = translucent(box.style.colour, 0.38);
  context.fill(path, "evenodd");
  context.strokeStyle = box.style.ink;
  context.lineWidth = 2.25 * unit;
  context.stroke(path);
  context.strokeStyle = box.style.colour;
  context.lineWidth = 1.25 * unit;
  context.stroke(path);
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {{box: Drawn, rect: import("./tags.js").Rect}[]} boxes
 * @param {Scene} scene
 * @param {number} unit
 */
function drawTags(context, boxes, scene, unit) {
  const important = (/** @type {Drawn} */ box) =>
    box.row === scene.selected || box.row === scene.hovered;
  const shown = boxes.filter(({ box }) => !isFaint(box, scene));
  const ordered = [
    ...shown.filter(({ box }) => important(box)),
    ...shown.filter(({ box }) => !important(box)),
  ];
  context.font = FONT.replace("12px", `${12 * unit}px`);
  context.textBaseline = "middle";
  const most = Math.min(LONGEST_TAG * unit, scene.area.width);
  const texts = ordered.map(({ box }) => fitting(context, box, most - 2 * TAG_PADDING * unit));
  const places = placeTags(
    ordered.map(({ box, rect }, index) => ({
      box: rect,
      width: context.measureText(texts[index]).width + 2 * TAG_PADDING * unit,
      height: TAG_HEIGHT * unit,
      needed: important(box),
    })),
    scene.area,
  );
  context.globalAlpha = 1;
  return ordered.flatMap(({ box }, index) => {
    const place = places[index];
    if (!place) return [];
    drawTag(context, place, texts[index], box.style, unit);
    return [{ row: box.row, place }];
  });
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {import("./tags.js").Rect} place
 * @param {string} text
 * @param {import("./palette.js").Style} style
 * @param {number} unit
 */
function drawTag(context, place, text, style, unit) {
  context.fillStyle = style.colour;
  context.beginPath();
  context.roundRect(place.x, place.y, place.width, place.height, 3 * unit);
  context.fill();
  context.strokeStyle = style.ink;
  context.lineWidth = unit;
  context.stroke();
  context.fillStyle = style.ink;
  context.fillText(text, place.x + TAG_PADDING * unit, place.y + place.height / 2 + 0.5 * unit);
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Drawn} box
 * @param {number} width
 * @returns {string} label and score, the label shortened until they fit
 */
function fitting(context, box, width) {
  const score = box.score.toFixed(2);
  const whole = `${box.label} ${score}`;
  if (context.measureText(whole).width <= width) return whole;
  const letters = [...box.label];
  while (letters.length > 1) {
    letters.pop();
    const text = `${letters.join("").trimEnd()}… ${score}`;
    if (context.measureText(text).width <= width) return text;
  }
  return score;
}
