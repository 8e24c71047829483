/** The service's routes, and its errors as sentences. */

const HERE = new URL(".", import.meta.url); // .../playground/, below any prefix or proxy
export const SERVICE = new URL("..", HERE);

/** A request that got no good answer. `status` is 0 if there was no answer. */
export class ServiceError extends Error {
  /** @param {string} sentence @param {number} status @param {string} [requestId] */
  constructor(sentence, status, requestId = "") {
    super(sentence);
    this.name = "ServiceError";
    this.status = status;
    this.requestId = requestId;
  }
}

/** @param {string} path below /playground/ @returns {string} */
export function address(path) {
  return new URL(path, HERE).href;
}

/** @returns {Promise<any>} model, words, examples, defaults */
export function facts() {
  return request(address("facts"));
}

/** @returns {Promise<{status: string, ready: boolean}>} */
export function health() {
  return request(new URL("health", SERVICE).href);
}

/**
 * @param {object} body
 * @param {AbortSignal} signal
 * @returns {Promise<any>}
 */
export function candidates(body, signal) {
  return request(address("candidates"), body, signal);
}

/**
 * @param {object} body
 * @param {AbortSignal} signal
 * @returns {Promise<{polygons: number[][][][]}>}
 */
export function masks(body, signal) {
  return request(address("masks"), body, signal);
}

/** @param {object} body @returns {Promise<string>} */
export async function exported(body) {
  const response = await send(address("export"), body);
  return response.text();
}

/**
 * @param {string} url
 * @param {object} [body]
 * @param {AbortSignal} [signal]
 */
async function request(url, body, signal) {
  const response = await send(url, body, signal);
  try {
    return await response.json();
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ServiceError(
      `${url} answers something other than JSON. A proxy in front of the service may have ` +
        "replaced the answer; look at its log.",
      response.status,
    );
  }
}

/**
 * @param {string} url
 * @param {object} [body]
 * @param {AbortSignal} [signal]
 * @returns {Promise<Response>}
 */
async function send(url, body, signal) {
  const post = body && {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  };
  let response;
  try {
    response = await fetch(url, { ...post, signal, cache: "no-store" });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ServiceError(
      `The service at ${SERVICE.origin} does not answer. Check that it runs and that this device ` +
        "reaches it, then try again.",
      0,
    );
  }
  if (!response.ok) throw await errorOf(response);
  return response;
}

/** @param {Response} response @returns {Promise<ServiceError>} */
async function errorOf(response) {
  const text = await response.text().catch(() => "");
  try {
    const { error, request_id: id } = JSON.parse(text);
    if (typeof error === "string") return new ServiceError(error, response.status, id);
  } catch {
    // A proxy in front of the service answered.
  }
  return new ServiceError(withoutBody(response), response.status);
}

/** @param {Response} response @returns {string} */
function withoutBody({ status, statusText }) {
  const answer = `The answer was ${status}${statusText ? ` ${statusText}` : ""}, not by the service`;
  if (status === 413) return `${answer}: a proxy refuses a picture of this size. Choose a smaller one.`;
  if (status === 502 || status === 503 || status === 504) {
    return `${answer}: it does not run, or the proxy gave up. Try again in a moment.`;
  }
  return `${answer} but by a proxy in front of it.`;
}
