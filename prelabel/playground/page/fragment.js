/** The state that a link carries, behind the # of the address. Pictures of users are not in it. */

/**
 * @typedef {object} Shared
 * @property {string} [prompt]
 * @property {string} [labels] the list as it was typed; it stands in place of the prompt
 * @property {string} [example]
 * @property {number} [box]
 * @property {number} [text]
 * @property {number} [nms]
 * @property {boolean} [agnostic]
 * @property {boolean} [masks]
 */

const NUMBERS = /** @type {const} */ (["box", "text", "nms"]);
const TEXTS = /** @type {const} */ (["prompt", "labels", "example"]);
const SWITCHES = /** @type {const} */ (["agnostic", "masks"]);

/** @param {string} hash @returns {Shared} values that make no sense are left out */
export function read(hash) {
  const parameters = new URLSearchParams(hash.replace(/^#/, ""));
  /** @type {Shared} */
  const shared = {};
  for (const name of TEXTS) {
    const text = parameters.get(name);
    if (text) shared[name] = text;
  }
  for (const name of NUMBERS) {
    const text = parameters.get(name)?.trim();
    const value = Number(text);
    if (text && value >= 0 && value <= 1) shared[name] = value;
  }
  for (const name of SWITCHES) {
    if (parameters.has(name)) shared[name] = parameters.get(name) === "1";
  }
  return shared;
}

/** @param {Shared} shared @returns {string} with the # */
export function write(shared) {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(shared)) {
    if (value === undefined || value === "") continue;
    parameters.set(name, typeof value === "boolean" ? String(Number(value)) : String(value));
  }
  const text = parameters.toString();
  return text && `#${text}`;
}
