/** Messages to the user: a notice that stays, and a toast that goes. */

import { ServiceError } from "./service.js";

const TOAST_MS = 4000;
const WORTH_ANOTHER_TRY = [0, 502, 503, 504];

export class Messages {
  /**
   * @param {{notice: HTMLElement, text: HTMLElement, action: HTMLButtonElement, close: HTMLElement,
   *   toast: HTMLElement}} parts
   * @param {() => void} again repeats what failed
   */
  constructor(parts, again) {
    this.parts = parts;
    this.again = again;
    this.timer = 0;
    parts.close.addEventListener("click", () => this.hide());
  }

  /** @param {string} sentence @param {string} [action] @param {() => void} [act] */
  tell(sentence, action, act) {
    this.parts.notice.classList.add("is-note");
    this.#show(sentence, action, act);
  }

  /** @param {Error} error */
  fail(error) {
    this.parts.notice.classList.remove("is-note");
    const status = error instanceof ServiceError ? error.status : -1;
    if (status === 401) this.#show(error.message, "Log in again", () => location.reload());
    else if (WORTH_ANOTHER_TRY.includes(status)) this.#show(error.message, "Try again", this.again);
    else this.#show(error.message);
  }

  hide() {
    this.parts.notice.hidden = true;
  }

  /** @param {string} sentence */
  toast(sentence) {
    const { toast } = this.parts;
    toast.textContent = sentence;
    toast.classList.add("is-shown");
    clearTimeout(this.timer);
    this.timer = setTimeout(() => toast.classList.remove("is-shown"), TOAST_MS);
  }

  /** @param {string} sentence @param {string} action @param {() => void} act */
  #show(sentence, action = "", act = () => {}) {
    const { notice, text, action: button } = this.parts;
    text.textContent = sentence;
    button.textContent = action;
    button.hidden = !action;
    button.onclick = act;
    notice.hidden = false;
  }
}
