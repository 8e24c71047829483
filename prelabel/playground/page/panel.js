/** Parts of the panel: legend, numbers of the selected box, words of the model, notes. */

import { swatch } from "./table.js";

/**
 * @typedef {object} Shown
 * @property {number} row number of the candidate
 * @property {string} label as it is shown: the phrase where there is no label
 * @property {string | null} realLabel
 * @property {string} phrase
 * @property {number} score
 * @property {number} textScore
 * @property {number[]} xyxy pixels of the picture
 * @property {number} width pixels
 * @property {number} height
 * @property {import("./palette.js").Style} style
 */

/**
 * The labels with the numbers of their boxes. Buttons stay the same while the labels do.
 * @param {HTMLElement} list
 * @param {{label: string, count: number, style: import("./palette.js").Style}[]} entries
 * @param {string | null} spotlight the label whose boxes are seen alone
 * @param {(label: string) => void} chosen
 */
export function showLegend(list, entries, spotlight, chosen) {
  const isSame =
    entries.length === list.children.length &&
    entries.every(({ label }, index) => label === labelOf(list.children[index]));
  if (!isSame) {
    list.replaceChildren(...entries.map((entry) => inItem(legendButton(entry, chosen))));
  }
  entries.forEach(({ label, count }, index) => {
    const button = /** @type {HTMLElement} */ (list.children[index].firstElementChild);
    /** @type {HTMLElement} */ (button.lastElementChild).textContent = String(count);
    button.classList.toggle("none", !count);
    button.setAttribute("aria-pressed", String(label === spotlight));
  });
}

/** @param {Element} item */
function labelOf(item) {
  return /** @type {HTMLElement} */ (item.firstElementChild).dataset.label;
}

/**
 * @param {{label: string, style: import("./palette.js").Style}} entry
 * @param {(label: string) => void} chosen
 */
function legendButton({ label, style }, chosen) {
  const button = makeButton("");
  button.dataset.label = label;
  const name = document.createElement("span");
  name.textContent = label;
  button.append(swatch(style), name, " ", document.createElement("b"));
  button.addEventListener("click", () => chosen(label));
  return button;
}

/**
 * @param {HTMLElement} list
 * @param {Shown | null} box
 * @param {[number, number]} imageWh
 */
export function showFacts(list, box, [imageWidth, imageHeight]) {
  list.hidden = !box;
  if (!box) return;
  const [left, top] = box.xyxy;
  const share = (/** @type {number} */ value, /** @type {number} */ whole) =>
    ((value / whole) * 100).toFixed(1);
  const percent =
    `x ${share(left, imageWidth)}, y ${share(top, imageHeight)}, ` +
    `width ${share(box.width, imageWidth)}, height ${share(box.height, imageHeight)}`;
  const facts = [
    ["Label", box.realLabel ?? "none", ""],
    ["Phrase", box.phrase, ""],
    ["Size", `${box.width.toFixed(1)} × ${box.height.toFixed(1)}`, ""],
    ["Score", box.score.toFixed(4), ""],
    ["Text score", box.textScore.toFixed(4), ""],
    ["Area", `${((box.width * box.height * 100) / imageWidth / imageHeight).toFixed(2)} %`, ""],
    ["Pixels: left, top, right, bottom", box.xyxy.map((side) => side.toFixed(1)).join(", "), "wide"],
    ["Percent of the picture", percent, "wide"],
  ];
  list.replaceChildren(
    ...facts.map(([name, value, kind]) => {
      const pair = document.createElement("div");
      if (kind) pair.className = kind;
      const term = document.createElement("dt");
      const description = document.createElement("dd");
      term.textContent = name;
      description.textContent = value;
      pair.append(term, description);
      return pair;
    }),
  );
}

/**
 * The model that answers, with what it knows and what it does not.
 * @param {(id: string) => any} part
 * @param {any} facts of the service
 * @param {(word: string) => void} chosen
 */
export function showModel(part, { model, knows }, chosen) {
  part("model").hidden = false;
  part("model-name").textContent = model.name;
  part("model-title").textContent = model.title;
  part("model-limits").textContent = model.limits;
  part("knows").hidden = !knows.length;
  part("knows-count").textContent = `The ${knows.length} words that it knows`;
  const parts = { list: part("words"), search: part("search"), count: part("search-count") };
  showWords(knows, parts, chosen);
}

/**
 * The words of a model that knows few, with a search.
 * @param {string[]} words
 * @param {{list: HTMLElement, search: HTMLInputElement, count: HTMLElement}} parts
 * @param {(word: string) => void} chosen
 */
function showWords(words, { list, search, count }, chosen) {
  const items = words.map((word) => {
    const button = makeButton(word);
    button.addEventListener("click", () => chosen(word));
    return inItem(button);
  });
  list.replaceChildren(...items);
  search.addEventListener("input", () => {
    const wanted = search.value.trim().toLowerCase();
    let found = 0;
    items.forEach((item, index) => {
      item.hidden = !words[index].toLowerCase().includes(wanted);
      found += Number(!item.hidden);
    });
    count.textContent = `${found} of ${words.length} words`;
  });
}

/** @param {HTMLElement} list @param {string[]} sentences */
export function showNotes(list, sentences) {
  list.hidden = !sentences.length;
  list.replaceChildren(
    ...sentences.map((sentence) => {
      const item = document.createElement("li");
      item.textContent = sentence;
      return item;
    }),
  );
}

/**
 * @param {HTMLElement} list
 * @param {{name: string, title: string, thumbnail: string}[]} examples
 * @param {(name: string) => string} addressOf
 * @param {(index: number) => void} chosen
 */
export function showExamples(list, examples, addressOf, chosen) {
  list.replaceChildren(
    ...examples.map((example, index) => {
      const button = makeButton("");
      const image = document.createElement("img");
      image.alt = example.title;
      image.loading = "lazy";
      image.src = addressOf(example.thumbnail);
      button.title = example.title;
      button.dataset.example = example.name;
      button.setAttribute("aria-pressed", "false");
      button.append(image);
      button.addEventListener("click", () => chosen(index));
      return inItem(button);
    }),
  );
}

/** @param {string} text @returns {HTMLButtonElement} */
function makeButton(text) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = text;
  return button;
}

/** @param {HTMLElement} content @returns {HTMLLIElement} */
function inItem(content) {
  const item = document.createElement("li");
  item.append(content);
  return item;
}
