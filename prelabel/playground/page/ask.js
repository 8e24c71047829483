/** The text that is looked for: a prompt, or a list of labels. */

/**
 * @typedef {object} Asked
 * @property {string} prompt empty for labels
 * @property {string[] | null} labels null for a prompt
 *
 * @typedef {"prompt" | "labels"} Kind
 */

const PLACEHOLDERS = {
  prompt: "cat . Vehicle: sedan, pickup . -dog",
  labels: "cat, traffic_light, red star",
};

export class Ask {
  /**
   * @param {HTMLFormElement} form has the text area and a radio button for each kind
   * @param {HTMLElement} label of the text area
   * @param {{submitted: () => void, changed: () => void}} hooks
   */
  constructor(form, label, hooks) {
    this.form = form;
    this.label = label;
    this.hooks = hooks;
    this.area = /** @type {HTMLTextAreaElement} */ (form.querySelector("textarea"));
    /** @type {Kind} */
    this.kind = "prompt";
    this.texts = { prompt: "", labels: "" };
    this.isTyped = false; // by the user; the text of an example is not
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      hooks.submitted();
    });
    form.addEventListener("change", (event) => {
      const { name, value } = /** @type {HTMLInputElement} */ (event.target);
      if (name === "mode") this.#switch(value === "labels" ? "labels" : "prompt");
    });
    this.area.addEventListener("input", () => {
      this.isTyped = true;
      hooks.changed();
    });
    this.area.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      hooks.submitted();
    });
  }

  get isEmpty() {
    return !this.area.value.trim();
  }

  /** @returns {Asked} */
  get asked() {
    const text = this.area.value.trim();
    if (this.kind === "prompt") return { prompt: text, labels: null };
    const labels = text.split(/[\n,;]/).map((label) => label.trim());
    return { prompt: "", labels: [...new Set(labels.filter(Boolean))] };
  }

  /**
   * Show a text that was not typed here; the prompt if there are both.
   * @param {{prompt?: string, labels?: string[] | string | null}} ask
   */
  show({ prompt, labels }) {
    const kind = prompt || !labels?.length ? "prompt" : "labels";
    this.#switch(kind);
    const list = Array.isArray(labels) ? labels.join(", ") : (labels ?? "");
    this.area.value = kind === "labels" ? list : (prompt ?? "");
    this.isTyped = false;
    this.hooks.changed();
  }

  /** Add a word at the end. @param {string} word */
  add(word) {
    const separator = this.kind === "prompt" ? " . " : ", ";
    const text = this.area.value.trim().replace(/[.,;]$/, "").trim();
    this.area.value = this.isTyped && text ? `${text}${separator}${word}` : word;
    this.isTyped = true;
    this.hooks.changed();
  }

  /** @param {Kind} kind */
  #switch(kind) {
    this.texts[this.kind] = this.area.value;
    this.kind = kind;
    this.area.value = this.texts[kind];
    this.area.placeholder = PLACEHOLDERS[kind];
    this.label.textContent = kind === "prompt" ? "Prompt" : "Labels";
    for (const radio of this.form.querySelectorAll("input[name=mode]")) {
      const button = /** @type {HTMLInputElement} */ (radio);
      button.checked = button.value === kind;
    }
    this.hooks.changed();
  }
}
