/** Keyboard shortcuts. Single keys are none while a text is typed, or when they are switched off. */

const STORED = "prelabel-shortcuts";

/**
 * @param {Record<string, () => void>} actions by key, letters in lower case
 * @param {HTMLInputElement} toggle
 */
export function listen(actions, toggle) {
  toggle.checked = stored() !== "off";
  toggle.addEventListener("change", () => store(toggle.checked ? "on" : "off"));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (document.querySelector("dialog[open]")) return;
    const isEscape = event.key === "Escape";
    if (!isEscape && (!toggle.checked || isTyping(event.target))) return;
    const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
}

/** @param {EventTarget | null} target */
function isTyping(target) {
  if (!(target instanceof HTMLElement)) return false;
  if (target instanceof HTMLTextAreaElement) return true;
  if (!(target instanceof HTMLInputElement)) return false;
  return !["range", "checkbox", "radio", "file"].includes(target.type);
}

/** @returns {string | null} */
function stored() {
  try {
    return localStorage.getItem(STORED);
  } catch {
    return null;
  }
}

/** @param {string} value */
function store(value) {
  try {
    localStorage.setItem(STORED, value);
  } catch {
    // It holds for this visit.
  }
}
