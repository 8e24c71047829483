/** Places for the tags of boxes: inside the picture, and on no other tag where that can be. */

/**
 * @typedef {{x: number, y: number, width: number, height: number}} Rect
 *
 * @typedef {object} Tagged
 * @property {Rect} box
 * @property {number} width of the tag
 * @property {number} height of the tag
 * @property {boolean} [needed] the tag is placed even where it covers another one
 */

/**
 * Place tags, those of the first boxes first.
 * @param {Tagged[]} boxes
 * @param {Rect} area tags stay inside of it
 * @returns {(Rect | null)[]} null where a tag would cover another one everywhere
 */
export function placeTags(boxes, area) {
  /** @type {Rect[]} */
  const placed = [];
  return boxes.map((tagged) => {
    if (!intersects(tagged.box, area)) return null;
    const places = placesOf(tagged).map((place) => moveInside(place, area));
    let best = places.find((place) => !placed.some((other) => intersects(place, other))) ?? null;
    if (!best && tagged.needed) best = places[0];
    if (best) placed.push(best);
    return best;
  });
}

/**
 * @param {Tagged} tagged
 * @returns {Rect[]} places in the order of preference
 */
function placesOf({ box, width, height }) {
  const right = box.x + box.width;
  const bottom = box.y + box.height;
  const corners = [
    [box.x, box.y - height],
    [right - width, box.y - height],
    [box.x, bottom],
    [right - width, bottom],
    [box.x, box.y],
    [right - width, box.y],
    [box.x, bottom - height],
    [right - width, bottom - height],
    [right, box.y],
    [box.x - width, box.y],
  ];
  return corners.map(([x, y]) => ({ x, y, width, height }));
}

/** @param {Rect} rect @param {Rect} area @returns {Rect} */
function moveInside(rect, area) {
  return {
    ...rect,
    x: Math.max(area.x, Math.min(rect.x, area.x + area.width - rect.width)),
    y: Math.max(area.y, Math.min(rect.y, area.y + area.height - rect.height)),
  };
}

/** @param {Rect} a @param {Rect} b @returns {boolean} */
export function intersects(a, b) {
  return (
    a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height
  );
}
