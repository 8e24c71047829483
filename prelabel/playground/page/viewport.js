/** Zoom and position of the picture on the stage, and the gestures that change them. */

const MOST_ZOOM = 40; // screen pixels per pixel of the picture
const STEP = 1.25;
const TAP_PX = 6; // a pointer that moves less is a click
const SHARE_OF_BOX = 0.85; // of the stage, at most, for a box that is selected
const MARGIN_PX = 14;

export class Viewport {
  /**
   * @param {HTMLElement} stage
   * @param {{
   *   changed: () => void,
   *   tapped: (x: number, y: number) => void,
   *   hovered: (x: number, y: number) => void,
   *   left: () => void,
   *   scrollsPage: () => boolean,
   * }} hooks x and y are pixels of the picture; scrollsPage: the wheel belongs to the page
   */
  constructor(stage, hooks) {
    this.stage = stage;
    this.hooks = hooks;
    this.wh = [1, 1];
    this.scale = 1;
    this.x = 0;
    this.y = 0;
    this.isFitted = true;
    /** @type {Map<number, {x: number, y: number}>} */
    this.pointers = new Map();
    this.moved = 0;
    this.#listen();
  }

  /** Show a picture of another size, whole. @param {number} width @param {number} height */
  show(width, height) {
    this.wh = [width, height];
    this.fit();
  }

  get fittedScale() {
    const width = this.stage.clientWidth - 2 * MARGIN_PX;
    const height = this.stage.clientHeight - 2 * MARGIN_PX;
    // Small pictures are enlarged, up to four times.
    return Math.max(0.001, Math.min(width / this.wh[0], height / this.wh[1], 4));
  }

  fit() {
    this.scale = this.fittedScale;
    this.x = (this.stage.clientWidth - this.wh[0] * this.scale) / 2;
    this.y = (this.stage.clientHeight - this.wh[1] * this.scale) / 2;
    this.#changed();
  }

  /** Keep the whole picture in sight when the stage gets another size. */
  resized() {
    if (this.isFitted) this.fit();
    else this.#changed();
  }

  /**
   * @param {number} factor
   * @param {number} [x] the point of the stage that stays where it is
   * @param {number} [y]
   */
  zoom(factor, x = this.stage.clientWidth / 2, y = this.stage.clientHeight / 2) {
    const least = Math.min(this.fittedScale, 1);
    const scale = Math.min(Math.max(this.scale * factor, least), MOST_ZOOM);
    this.x = x - ((x - this.x) * scale) / this.scale;
    this.y = y - ((y - this.y) * scale) / this.scale;
    this.scale = scale;
    this.#changed();
  }

  zoomIn() {
    this.zoom(STEP);
  }

  zoomOut() {
    this.zoom(1 / STEP);
  }

  /** @param {number} dx @param {number} dy */
  pan(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.#changed();
  }

  /** Bring a box into sight, all of it. @param {ArrayLike<number>} xyxy pixels of the picture */
  reveal(xyxy) {
    if (this.isFitted) return;
    const { clientWidth: width, clientHeight: height } = this.stage;
    const [boxWidth, boxHeight] = [xyxy[2] - xyxy[0], xyxy[3] - xyxy[1]].map((side) => side * this.scale);
    const excess = Math.max(boxWidth / width, boxHeight / height) / SHARE_OF_BOX;
    if (excess > 1) this.zoom(1 / excess);
    const [left, right] = [xyxy[0], xyxy[2]].map((x) => this.x + x * this.scale);
    const [top, bottom] = [xyxy[1], xyxy[3]].map((y) => this.y + y * this.scale);
    if (left >= 0 && top >= 0 && right <= width && bottom <= height) return;
    this.pan(width / 2 - (left + right) / 2, height / 2 - (top + bottom) / 2);
  }

  /** Part of the stage that shows the picture. */
  get area() {
    const x = Math.max(0, this.x);
    const y = Math.max(0, this.y);
    const right = Math.min(this.stage.clientWidth, this.x + this.wh[0] * this.scale);
    const bottom = Math.min(this.stage.clientHeight, this.y + this.wh[1] * this.scale);
    return { x, y, width: Math.max(0, right - x), height: Math.max(0, bottom - y) };
  }

  #changed() {
    this.x = within(this.x, this.wh[0] * this.scale, this.stage.clientWidth);
    this.y = within(this.y, this.wh[1] * this.scale, this.stage.clientHeight);
    this.isFitted = Math.abs(this.scale / this.fittedScale - 1) < 1e-3;
    // A finger scrolls the page while the picture is whole, and moves the picture otherwise.
    this.stage.classList.toggle("is-zoomed", !this.isFitted);
    this.hooks.changed();
  }

  #listen() {
    const { stage } = this;
    stage.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    stage.addEventListener("pointerdown", (event) => this.#down(event));
    stage.addEventListener("pointermove", (event) => this.#move(event));
    stage.addEventListener("pointerup", (event) => this.#up(event));
    stage.addEventListener("pointercancel", (event) => this.pointers.delete(event.pointerId));
    stage.addEventListener("pointerleave", () => this.hooks.left());
    stage.addEventListener("dblclick", (event) => {
      const { x, y } = this.#place(event);
      if (this.isFitted) this.zoom(2.5, x, y);
      else this.fit();
    });
    new ResizeObserver(() => this.resized()).observe(stage);
  }

  /** @param {WheelEvent} event */
  #wheel(event) {
    const isPinch = event.ctrlKey || event.metaKey;
    if (!isPinch && this.hooks.scrollsPage()) return;
    event.preventDefault();
    const { x, y } = this.#place(event);
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 20 : 1;
    const delta = Math.max(-120, Math.min(120, event.deltaY * lines));
    this.zoom(Math.exp(-delta * (event.ctrlKey ? 0.01 : 0.002)), x, y);
  }

  /** @param {PointerEvent} event */
  #down(event) {
    // A captured pointer would keep its click from the buttons on the stage.
    const isOnButton = event.target instanceof Element && event.target.closest("button");
    if (event.button !== 0 || isOnButton) return;
    if (this.pointers.size === 0) this.moved = 0;
    this.pointers.set(event.pointerId, this.#place(event));
    try {
      this.stage.setPointerCapture(event.pointerId);
    } catch {
      // The pointer ended meanwhile.
    }
  }

  /** @param {PointerEvent} event */
  #move(event) {
    const to = this.#place(event);
    const from = this.pointers.get(event.pointerId);
    if (!from) {
      if (event.pointerType !== "touch") this.hooks.hovered(...this.#pixel(to));
      return;
    }
    this.moved += Math.hypot(to.x - from.x, to.y - from.y);
    if (this.pointers.size === 2) this.#pinch(event.pointerId, from, to);
    else if (this.moved >= TAP_PX && !this.isFitted) this.pan(to.x - from.x, to.y - from.y);
    this.pointers.set(event.pointerId, to);
  }

  /**
   * @param {number} id
   * @param {{x: number, y: number}} from
   * @param {{x: number, y: number}} to
   */
  #pinch(id, from, to) {
    const other = [...this.pointers].find(([pointer]) => pointer !== id)?.[1];
    if (!other) return;
    const before = Math.hypot(from.x - other.x, from.y - other.y);
    const after = Math.hypot(to.x - other.x, to.y - other.y);
    this.x += (to.x - from.x) / 2;
    this.y += (to.y - from.y) / 2;
    this.zoom(before ? after / before : 1, (to.x + other.x) / 2, (to.y + other.y) / 2);
  }

  /** @param {PointerEvent} event */
  #up(event) {
    if (!this.pointers.delete(event.pointerId)) return;
    if (this.moved < TAP_PX && this.pointers.size === 0) {
      this.hooks.tapped(...this.#pixel(this.#place(event)));
    }
  }

  /** @param {MouseEvent} event @returns {{x: number, y: number}} */
  #place(event) {
    const { left, top } = this.stage.getBoundingClientRect();
    return { x: event.clientX - left - this.stage.clientLeft, y: event.clientY - top };
  }

  /** @param {{x: number, y: number}} place @returns {[number, number]} */
  #pixel({ x, y }) {
    return [(x - this.x) / this.scale, (y - this.y) / this.scale];
  }
}

/** @param {number} start @param {number} length @param {number} room @returns {number} */
function within(start, length, room) {
  if (length <= room) return (room - length) / 2;
  // At least half of the stage shows the picture, so that its edge can be seen in the middle.
  return Math.min(room / 2, Math.max(start, room / 2 - length));
}
