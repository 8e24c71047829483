/**
 * Colours of labels. People with any colour vision can tell them apart: they are Okabe and Ito's.
 * Beyond seven labels the outline gets another pattern, so that colour and pattern name a label.
 */

const COLOURS = ["#e69f00", "#56b4e9", "#009e73", "#cc79a7", "#f0e442", "#d55e00", "#0072b2"];
const PATTERNS = [[], [9, 5], [2.5, 4], [12, 4, 2.5, 4]];

/**
 * @typedef {object} Style
 * @property {string} colour
 * @property {string} ink black or white, the one that can be read better on the colour
 * @property {number[]} dash pattern of the outline in pixels, empty for a solid line
 */

/**
 * @param {number} index number of the label
 * @returns {Style}
 */
export function styleOf(index) {
  const colour = COLOURS[index % COLOURS.length];
  const pattern = Math.floor(index / COLOURS.length) % PATTERNS.length;
  return { colour, ink: inkOn(colour), dash: PATTERNS[pattern] };
}

/** @param {string} colour @returns {string} */
function inkOn(colour) {
  const channels = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16) / 255);
  const [red, green, blue] = channels.map((value) =>
    value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4,
  );
  const luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  return luminance > 0.179 ? "#000000" : "#ffffff";
}

/** @param {string} colour @param {number} alpha @returns {string} */
export function translucent(colour, alpha) {
  const byte = Math.round(alpha * 255).toString(16).padStart(2, "0");
  return `${colour}${byte}`;
}
