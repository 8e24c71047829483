/** The boxes as a table: the form of the drawing for keyboards and screen readers. */

const AT_ONCE = 40;
const REST_MS = 120;
const SVG = "http://www.w3.org/2000/svg";

/**
 * @typedef {object} Line
 * @property {number} row number of the candidate
 * @property {string} label
 * @property {number} score
 * @property {number} textScore
 * @property {number} width pixels
 * @property {number} height
 * @property {import("./palette.js").Style} style
 */

export class BoxTable {
  /**
   * @param {HTMLTableElement} table
   * @param {{selected: (row: number) => void, hovered: (row: number | null) => void}} hooks
   */
  constructor(table, hooks) {
    this.table = table;
    this.body = table.tBodies[0];
    this.hooks = hooks;
    /** @type {Map<number, HTMLTableRowElement>} rows of the current answer, made when shown */
    this.made = new Map();
    /** @type {number | null} */
    this.current = null;
    /** @type {Line[]} */
    this.lines = [];
    this.timer = 0;
    /** @type {HTMLButtonElement | null} */
    this.tabStop = null;
    this.body.addEventListener("click", (event) => this.#pick(event));
    this.body.addEventListener("keydown", (event) => this.#move(event));
    this.body.addEventListener("pointerover", (event) => hooks.hovered(rowOf(event)));
    this.body.addEventListener("pointerleave", () => hooks.hovered(null));
  }

  /** Forget the rows: the candidates are new. */
  clear() {
    clearTimeout(this.timer);
    this.made.clear();
    this.current = null;
    this.body.replaceChildren();
  }

  /**
   * Show the first rows at once, and the others, which must be scrolled to, when the sliders rest.
   * @param {Line[]} lines best first
   */
  show(lines) {
    clearTimeout(this.timer);
    this.lines = lines;
    this.#showFirst(AT_ONCE);
    if (lines.length > AT_ONCE) this.timer = setTimeout(() => this.#showFirst(Infinity), REST_MS);
  }

  /** @param {number} count */
  #showFirst(count) {
    const rows = this.lines.slice(0, count).map((line) => {
      const made = this.made.get(line.row) ?? makeRow(line);
      this.made.set(line.row, made);
      return made;
    });
    const isSame =
      rows.length === this.body.rows.length &&
      rows.every((row, index) => row === this.body.rows[index]);
    if (isSame) return;
    const focused = document.activeElement;
    this.body.replaceChildren(...rows);
    if (focused instanceof HTMLElement && this.body.contains(focused)) focused.focus();
    this.select(this.current, false);
  }

  /** @param {number | null} row @param {boolean} [scrolls] */
  select(row, scrolls = true) {
    if (this.current !== null) this.made.get(this.current)?.setAttribute("aria-selected", "false");
    this.current = row;
    const chosen = row === null ? undefined : this.made.get(row);
    chosen?.setAttribute("aria-selected", "true");
    if (scrolls && chosen?.isConnected) this.#scrollTo(chosen);
    this.#setTabStop();
  }

  /** Scroll the table alone; `scrollIntoView` would scroll the page, too. @param {HTMLElement} row */
  #scrollTo(row) {
    const frame = /** @type {HTMLElement} */ (this.table.parentElement);
    const head = this.table.tHead?.offsetHeight ?? 0;
    const above = row.offsetTop - head - frame.scrollTop;
    const below = row.offsetTop + row.offsetHeight - frame.scrollTop - frame.clientHeight;
    if (above < 0) frame.scrollTop += above;
    else if (below > 0) frame.scrollTop += below;
  }

  /** Of all rows, one can be reached with Tab; arrows reach the others. */
  #setTabStop() {
    const chosen = this.current === null ? undefined : this.made.get(this.current);
    const row = chosen?.isConnected ? chosen : this.body.rows[0];
    if (this.tabStop) this.tabStop.tabIndex = -1;
    this.tabStop = row?.querySelector("button") ?? null;
    if (this.tabStop) this.tabStop.tabIndex = 0;
  }

  /** @param {Event} event */
  #pick(event) {
    const row = rowOf(event);
    if (row !== null) this.hooks.selected(row);
  }

  /** @param {KeyboardEvent} event */
  #move(event) {
    const rows = [...this.body.rows];
    const at = rows.findIndex((row) => row.contains(document.activeElement));
    /** @type {Record<string, number>} */
    const targets = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: rows.length - 1 };
    const target = rows[targets[event.key]];
    if (!(event.key in targets)) return;
    event.preventDefault();
    if (!target) return;
    this.hooks.selected(Number(target.dataset.row));
    target.querySelector("button")?.focus({ preventScroll: true });
  }
}

/** @param {Event} event @returns {number | null} */
function rowOf(event) {
  const row = /** @type {Element} */ (event.target).closest("tr");
  return row ? Number(row.dataset.row) : null;
}

/** @param {Line} line @returns {HTMLTableRowElement} */
function makeRow(line) {
  const row = document.createElement("tr");
  row.dataset.row = String(line.row);
  row.setAttribute("aria-selected", "false");
  const name = document.createElement("th");
  name.scope = "row";
  const button = document.createElement("button");
  button.type = "button";
  button.tabIndex = -1;
  button.append(swatch(line.style), line.label);
  name.append(button);
  const size = `${Math.round(line.width)} × ${Math.round(line.height)}`;
  const numbers = [line.score.toFixed(2), line.textScore.toFixed(2), size].map((text) => {
    const cell = document.createElement("td");
    cell.textContent = text;
    return cell;
  });
  row.append(name, ...numbers);
  return row;
}

/**
 * A sample of the outline of a label.
 * @param {import("./palette.js").Style} style
 * @returns {SVGSVGElement}
 */
export function swatch({ colour, ink, dash }) {
  const picture = document.createElementNS(SVG, "svg");
  picture.setAttribute("class", "swatch");
  picture.setAttribute("viewBox", "0 0 16 16");
  picture.setAttribute("aria-hidden", "true");
  const pattern = dash.map((length) => length * 1.5).join(" ");
  picture.append(square(ink, 4.5, ""), square(colour, 3, pattern));
  return picture;
}

/** @param {string} colour @param {number} width of the line @param {string} pattern */
function square(colour, width, pattern) {
  const attributes = { x: 2.5, y: 2.5, width: 11, height: 11, rx: 1, stroke: colour, fill: colour };
  const rect = document.createElementNS(SVG, "rect");
  for (const [name, value] of Object.entries(attributes)) rect.setAttribute(name, String(value));
  rect.setAttribute("stroke-width", String(width));
  rect.setAttribute("stroke-dasharray", pattern || "none");
  return rect;
}
