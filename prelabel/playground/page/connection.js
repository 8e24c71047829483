/** The state of the service: its facts, and whether it starts, runs or is out of reach. */

import { pause } from "./detection.js";
import { facts, health, ServiceError } from "./service.js";

const POLL_MS = 2000;
const STATES = { UP: "is-up", STARTING: "is-starting", DOWN: "is-down" };
const WORDS = { UP: "", STARTING: " is starting", DOWN: " is not ready" };

/** @typedef {keyof typeof STATES} State */

export class Connection {
  /**
   * @param {HTMLElement} chip
   * @param {HTMLElement} text of the chip
   * @param {(error: Error) => void} failed
   */
  constructor(chip, text, failed) {
    this.chip = chip;
    this.text = text;
    this.failed = failed;
    /** @type {any} */
    this.facts = null;
  }

  /** @returns {Promise<any>} the facts; tried again while the service cannot be reached */
  async connect() {
    for (;;) {
      try {
        this.facts = await facts();
        this.watch();
        return this.facts;
      } catch (error) {
        this.show("DOWN");
        this.failed(/** @type {Error} */ (error));
        const isFinal = error instanceof ServiceError && error.status >= 400 && error.status < 500;
        if (isFinal) throw error;
      }
      await pause(POLL_MS);
    }
  }

  /** Ask until the service has started. */
  async watch() {
    for (;;) {
      const state = await this.#state();
      this.show(state);
      if (state !== "STARTING") return;
      await pause(POLL_MS);
    }
  }

  /** @param {State} state */
  show(state) {
    this.chip.classList.remove(...Object.values(STATES));
    this.chip.classList.add(STATES[state]);
    this.text.textContent = `${this.facts?.model.name ?? "service"}${WORDS[state]}`;
    this.chip.title = this.facts?.model.title ?? "";
  }

  /** @returns {Promise<State>} */
  async #state() {
    try {
      const { status } = await health();
      return status === "UP" || status === "STARTING" ? status : "DOWN";
    } catch {
      return "DOWN";
    }
  }
}
