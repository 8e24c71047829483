/** "Take it along": what is copied and downloaded. */

import { copy, download, stem } from "./commands.js";
import { exported, SERVICE } from "./service.js";
import { drawnPicture } from "./stage.js";

/**
 * @typedef {object} Taken the state that is taken along
 * @property {import("./picture.js").Picture} picture
 * @property {{prompt: string, labels: string[] | null}} asked
 * @property {import("./results.js").Results} results
 * @property {import("./panel.js").Shown[]} boxes
 * @property {Map<number, number[][][]> | null} rings masks by row, null if none are shown
 * @property {import("./selection.js").Thresholds} thresholds
 */

const JSON_FILES = /** @type {Record<string, string>} */ ({
  label_studio: "-label-studio.json",
  coco: "-coco.json",
});
const COPIED = /** @type {Record<string, string>} */ ({
  config: "The labeling config is copied.",
  curl: "The command is copied.",
});

/**
 * @param {string} kind config, curl, link, label_studio, coco or drawing
 * @param {Taken} taken
 * @returns {Promise<{sentence: string, byHand?: string}>} byHand: a text that could not be copied
 */
export async function take(kind, taken) {
  const { picture } = taken;
  if (kind === "link") return copied(Promise.resolve(location.href), linkSentence(picture));
  if (kind === "drawing") {
    const boxes = taken.boxes.map((box) => ({ ...box, rings: taken.rings?.get(box.row) ?? null }));
    download(await drawnPicture(picture, boxes), `${stem(picture.title)}-prelabel.png`);
    return { sentence: "The drawn picture is downloaded." };
  }
  const text = exported({ format: kind, ...request(taken), ...formOf(kind, taken) });
  if (kind in COPIED) return copied(text, COPIED[kind]);
  const name = `${stem(picture.title)}${JSON_FILES[kind]}`;
  download(new Blob([await text], { type: "application/json" }), name);
  return { sentence: `${name} is downloaded.` };
}

/** @param {Taken} taken */
function request({ picture, asked, thresholds, rings }) {
  return {
    image_name: picture.title,
    prompt: asked.prompt,
    labels: asked.labels,
    masks: Boolean(rings),
    thresholds: {
      box_threshold: thresholds.box,
      text_threshold: thresholds.text,
      nms_iou_threshold: thresholds.nms,
      nms_class_agnostic: thresholds.agnostic,
    },
  };
}

/** @param {string} kind @param {Taken} taken */
function formOf(kind, { picture, results, boxes, rings }) {
  if (kind === "curl") {
    const example = picture.example ? { example: picture.example } : {};
    return { service_url: SERVICE.href, ...example };
  }
  if (!(kind in JSON_FILES)) return {};
  return {
    image_wh: results.imageWh,
    boxes: boxes.map(({ row, xyxy, realLabel, score, phrase }) => {
      const polygons = rings?.get(row);
      return { xyxy, label: realLabel, score, phrase, ...(polygons && { polygons }) };
    }),
  };
}

/** @param {import("./picture.js").Picture} picture */
function linkSentence(picture) {
  return picture.example
    ? "The link is copied. It shows this picture with this prompt and these thresholds."
    : "The link is copied. It has the prompt and the thresholds; the picture is not in it.";
}

/** @param {Promise<string>} text @param {string} sentence */
async function copied(text, sentence) {
  return (await copy(text)) ? { sentence } : { sentence: "", byHand: await text };
}
