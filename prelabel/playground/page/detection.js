/** One detection at a time: waits for a service that starts, counts the seconds, can be cancelled. */

import { candidates, health, ServiceError } from "./service.js";

const POLL_MS = 1500;
const TICK_MS = 100;

/**
 * @typedef {object} Hooks
 * @property {(seconds: number, isStarting: boolean) => void} running called ten times a second
 * @property {(answer: any) => void} answered
 * @property {(error: Error) => void} failed
 * @property {() => void} ended after an answer, an error or a cancellation
 */

export class Detection {
  /** @param {Hooks} hooks */
  constructor(hooks) {
    this.hooks = hooks;
    /** @type {AbortController | null} */
    this.current = null;
  }

  /**
   * Ask for the candidates. A detection that runs is cancelled, so that no older answer can take
   * the place of a newer one.
   * @param {() => Promise<object>} body
   */
  async run(body) {
    this.cancel();
    const controller = new AbortController();
    const { signal } = controller;
    this.current = controller;
    const started = performance.now();
    let isStarting = false;
    const tick = () => this.hooks.running((performance.now() - started) / 1000, isStarting);
    const timer = setInterval(tick, TICK_MS);
    tick();
    try {
      const asked = await body();
      signal.throwIfAborted();
      const answer = await ready(asked, signal, (starts) => {
        isStarting = starts;
      });
      if (this.current === controller) this.hooks.answered(answer);
    } catch (error) {
      if (this.current === controller) this.hooks.failed(/** @type {Error} */ (error));
    } finally {
      clearInterval(timer);
      if (this.current === controller) {
        this.current = null;
        this.hooks.ended();
      }
    }
  }

  /** @returns {boolean} true if a detection ran */
  cancel() {
    if (!this.current) return false;
    const running = this.current;
    this.current = null;
    running.abort();
    this.hooks.ended();
    return true;
  }
}

/**
 * @param {object} body
 * @param {AbortSignal} signal
 * @param {(starts: boolean) => void} starting
 * @returns {Promise<any>} the answer, asked again when the service has started
 */
async function ready(body, signal, starting) {
  for (;;) {
    try {
      return await candidates(body, signal);
    } catch (error) {
      if (!(error instanceof ServiceError) || error.status !== 503) throw error;
      const { status } = await health();
      if (status !== "STARTING") throw error;
    }
    starting(true);
    while ((await health()).status === "STARTING") await pause(POLL_MS, signal);
    starting(false);
  }
}

/** @param {number} milliseconds @param {AbortSignal} [signal] @returns {Promise<void>} */
export function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
