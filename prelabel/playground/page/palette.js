/**
 * Strokes that tell labels apart, for people with and without colour blindness: those of the
 * drawings of `prelabel predict`. Its palette.py says how they were found.
 */

const COLOURS = [
  "#ffe000",
  "#802060",
  "#a0a0e0",
  "#006000",
  "#00a000",
  "#c06080",
  "#6040e0",
  "#80e0c0",
];
const PATTERNS = [[], [4, 3], [1, 2], [5, 2, 1, 2]]; // dash and gap in turn, in line widths

/**
 * @typedef {object} Style
 * @property {string} colour
 * @property {string} ink black or white, whichever has more contrast with the colour
 * @property {number[]} dash pattern of the outline in line widths, empty for a whole line
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
  // Here the contrasts with black and with white are equal.
  return luminance > 0.1791 ? "#000000" : "#ffffff";
}

/** @param {string} colour @param {number} alpha @returns {string} */
export function translucent(colour, alpha) {
  const byte = Math.round(alpha * 255).toString(16).padStart(2, "0");
  return `${colour}${byte}`;
}
