/** The playground: connects the service, the picture, the sliders and the panel. */

import { Ask } from "./ask.js";
import { Boxes } from "./boxes.js";
import { Connection } from "./connection.js";
import { Detection } from "./detection.js";
import * as fragment from "./fragment.js";
import { listen } from "./keys.js";
import { Messages } from "./messages.js";
import { showExamples, showModel, showNotes } from "./panel.js";
import { encoded, openExample, openFile, release } from "./picture.js";
import { listenToPictures } from "./picture-input.js";
import { Results } from "./results.js";
import { address, SERVICE, ServiceError } from "./service.js";
import { take } from "./take.js";
import { startTheme } from "./theme-switch.js";
import { ThresholdPanel } from "./thresholds.js";

const REMEMBER_MS = 300;
const CANNOT_SHOW = "This browser cannot show the picture; its boxes are drawn on an empty area.";

/** @template {HTMLElement} T @param {string} id @returns {T} */
const part = (id) => /** @type {T} */ (document.getElementById(id));

const masksSwitch = /** @type {HTMLInputElement} */ (part("masks"));

/** @type {any} of the service, null until they are known */
let facts = null;
/** @type {import("./picture.js").Picture | null} */
let picture = null;
let pictureNumber = 0; // a picture that opens slowly never takes the place of a newer one
/** @type {import("./ask.js").Asked} of the boxes that are shown */
let asked = { prompt: "", labels: null };
let isWaiting = false; // for the facts or a picture: the detection starts when they are there

// --- Parts of the page ---

const ask = new Ask(part("ask"), part("prompt-label"), {
  submitted: () => detect(),
  changed: () => {
    part("grammar-prompt").hidden = ask.kind !== "prompt";
    part("grammar-labels").hidden = ask.kind !== "labels";
    const isNew = boxes.results && JSON.stringify(ask.asked) !== JSON.stringify(asked);
    part("ask-hint").classList.toggle("is-new", Boolean(isNew));
    remember();
  },
});
const messages = new Messages(
  {
    notice: part("notice"),
    text: part("notice-text"),
    action: part("notice-action"),
    close: part("notice-close"),
    toast: part("toast"),
  },
  () => detect(),
);
const connection = new Connection(part("chip"), part("chip-text"), (error) => messages.fail(error));
const thresholds = new ThresholdPanel(part, () => {
  boxes.schedule();
  showTakeHint();
  remember();
});
const boxes = new Boxes(part, thresholds, {
  masksChanged: () => showProgress(),
  failed: (error) => messages.fail(error),
});
let elapsed = "";
const detection = new Detection({
  running: (seconds, isStarting) => {
    elapsed = isStarting
      ? `The service is starting; this waits (${seconds.toFixed(0)} s)`
      : `Detecting… ${seconds.toFixed(1)} s`;
    showProgress();
  },
  answered: (answer) => showAnswer(answer),
  failed: (error) => {
    clearResults();
    if (error instanceof ServiceError && error.status === 0) connection.show("DOWN");
    messages.fail(error);
  },
  ended: () => {
    elapsed = "";
    showProgress();
  },
});

// --- Answers ---

/** @param {any} answer */
function showAnswer(answer) {
  messages.hide();
  connection.show("UP");
  const results = new Results(answer);
  boxes.show(results, pictureAsSent());
  enableTaking(true);
  showNotes(part("notes"), [...answer.notes, ...(picture?.width ? [] : [CANNOT_SHOW])]);
  ask.hooks.changed();
  if (!boxes.shown.length) explainNoBoxes(results);
}

/**
 * No box is over the thresholds: say which candidate is the best, and offer to show it.
 * @param {Results} shown
 */
function explainNoBoxes(shown) {
  const { best } = shown;
  const limits = facts.model.limits ? ` ${facts.model.limits}` : "";
  if (best === null) {
    const words = facts.knows.length
      ? "Is it one of its words? They are listed below."
      : "It reads English words.";
    messages.tell(`The model found nothing. ${words}${limits}`);
    return;
  }
  const { label, score, textScore } = shown.box(best);
  const numbers = `score ${score.toFixed(2)}, text score ${textScore.toFixed(2)}`;
  const sentence = `No box is over the thresholds. The best candidate is ${label}: ${numbers}.${limits}`;
  messages.tell(sentence, "Show it", () => {
    const { values } = thresholds;
    const box = Math.min(values.box, roundedDown(score));
    thresholds.set({ box, text: Math.min(values.text, roundedDown(textScore)) });
    messages.hide();
  });
}

/** @param {number} value @returns {number} of two digits */
function roundedDown(value) {
  return Math.floor(value * 100) / 100;
}

function clearResults() {
  boxes.clear();
  showNotes(part("notes"), []);
  enableTaking(false);
}

// --- Asking ---

function detect() {
  if (ask.isEmpty) {
    ask.area.focus();
    return;
  }
  if (!picture) {
    isWaiting = true;
    messages.tell("Choose a picture: drop one, paste one, open one, or take an example.");
    return;
  }
  isWaiting = !facts;
  if (!facts) return;
  messages.hide();
  asked = ask.asked;
  remember();
  const [body, image] = [asked, pictureAsSent()];
  detection.run(async () => ({ ...(await image()), ...body }));
}

/** @returns {() => Promise<object>} the picture of this moment, as requests carry it */
function pictureAsSent() {
  const shown = picture;
  return async () => (shown ? { image: await encoded(shown) } : {});
}

/** @param {() => Promise<import("./picture.js").Picture>} open */
async function load(open) {
  const number = ++pictureNumber;
  detection.cancel();
  let opened;
  try {
    opened = await open();
  } catch {
    // The file is gone, or the browser may not read it.
    messages.fail(new Error("The file cannot be read. Check that it is still there, and open it again."));
    return;
  }
  if (number !== pictureNumber) {
    release(opened);
    return;
  }
  release(picture);
  picture = opened;
  clearResults();
  messages.hide();
  boxes.stage.show(opened);
  const size = opened.width ? ` · ${opened.width} × ${opened.height}` : "";
  part("title").textContent = opened.title + size;
  for (const button of part("examples").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button.dataset.example === opened.example));
  }
  remember();
  if (isTooLarge(opened)) return;
  // The text of an example does not fit a picture of the user.
  if (!ask.isEmpty && (opened.example || ask.isTyped || isWaiting)) detect();
  else if (!matchMedia("(pointer: coarse)").matches) ask.area.select();
}

/** @param {import("./picture.js").Picture} opened */
function isTooLarge({ file, title }) {
  const most = facts?.max_image_bytes ?? Infinity;
  if (!file || file.size <= most) return false;
  const mib = (/** @type {number} */ bytes) => (bytes / 2 ** 20).toFixed(1);
  const sizes = `${title} has ${mib(file.size)} MiB, and the service accepts ${mib(most)} MiB`;
  const advice = "Choose a smaller picture, save it with more compression, or raise images.max_bytes.";
  messages.fail(new Error(`${sizes}. ${advice}`));
  return true;
}

/** @param {any} example */
function openListed(example) {
  load(() => openExample(example, address(`examples/${example.file}`)));
}

// --- The link ---

let remembering = 0;

function remember() {
  clearTimeout(remembering);
  remembering = setTimeout(rememberNow, REMEMBER_MS);
}

function rememberNow() {
  clearTimeout(remembering);
  if (!facts) return;
  const hash = fragment.write({
    [ask.kind]: ask.area.value.trim(),
    example: picture?.example ?? "",
    ...thresholds.values,
    masks: masksSwitch.checked || undefined,
  });
  if (hash !== location.hash) history.replaceState(null, "", hash);
}

function applyLink() {
  const shared = fragment.read(location.hash);
  const { box, text, nms, agnostic } = { ...thresholds.defaults, ...shared };
  thresholds.set({ box, text, nms, agnostic });
  masksSwitch.checked = boxes.showsMasks = Boolean(facts.segmenter) && shared.masks === true;
  if (shared.prompt || shared.labels) {
    ask.show(shared);
    ask.isTyped = true;
  }
  const example = facts.examples.find((/** @type {any} */ each) => each.name === shared.example);
  if (example) {
    if (ask.isEmpty) ask.show(example);
    openListed(example);
  } else if (isWaiting || (picture && !ask.isEmpty)) detect();
}

// --- Take it along ---

/** @param {boolean} isEnabled */
function enableTaking(isEnabled) {
  for (const button of part("actions").querySelectorAll("button")) {
    const needsPicture = button.dataset.take === "drawing";
    button.disabled = !isEnabled || (needsPicture && !picture?.width);
  }
}

/** @param {string} kind */
async function takeAlong(kind) {
  if (!boxes.results || !picture) return;
  rememberNow();
  try {
    const taken = {
      picture,
      asked,
      results: boxes.results,
      boxes: boxes.shown,
      rings: boxes.showsMasks ? boxes.masks.rings : null,
      thresholds: thresholds.values,
    };
    const { sentence, byHand } = await take(kind, taken);
    if (byHand === undefined) {
      messages.toast(sentence);
      return;
    }
    const area = /** @type {HTMLTextAreaElement} */ (part("by-hand-text"));
    area.value = byHand;
    /** @type {HTMLDialogElement} */ (part("by-hand")).showModal();
    area.select();
  } catch (error) {
    messages.fail(/** @type {Error} */ (error));
  }
}

function showProgress() {
  const text = elapsed || (boxes.masks.isRunning ? "Drawing masks…" : "");
  part("progress").hidden = !text;
  part("cancel").hidden = !elapsed;
  part("progress-text").textContent = text;
  boxes.stage.root.setAttribute("aria-busy", String(Boolean(elapsed)));
}

/** POST /predict takes both thresholds, but the suppression of the settings. */
function showTakeHint() {
  const { nms, agnostic } = thresholds.values;
  part("take-hint").textContent = thresholds.suppressesAsService
    ? ""
    : "NMS differs from the service’s settings. For the same boxes, set " +
      `detection.nms_iou_threshold to ${nms} and detection.nms_class_agnostic to ${agnostic}.`;
}

// --- Events ---

function listenToButtons() {
  const { stage } = boxes;
  const { viewport } = stage;
  const clicks = {
    "zoom-in": () => viewport.zoomIn(),
    "zoom-out": () => viewport.zoomOut(),
    fit: () => viewport.fit(),
    cancel: () => detection.cancel(),
    "help-open": () => openHelp(),
    "grammar-toggle": () => {
      const isOpen = part("grammar").hidden;
      part("grammar").hidden = !isOpen;
      part("grammar-toggle").setAttribute("aria-expanded", String(isOpen));
    },
  };
  for (const [id, click] of Object.entries(clicks)) part(id).addEventListener("click", click);
  masksSwitch.addEventListener("change", () => {
    boxes.showsMasks = masksSwitch.checked;
    boxes.schedule();
    remember();
  });
  for (const button of part("actions").querySelectorAll("button")) {
    button.addEventListener("click", () => takeAlong(button.dataset.take ?? ""));
  }
  stage.root.addEventListener("keydown", (event) => {
    if (event.target === stage.root && stage.key(event)) event.preventDefault();
  });
}

function openHelp() {
  /** @type {HTMLDialogElement} */ (part("help")).showModal();
}

function listenToKeys() {
  const { viewport } = boxes.stage;
  const toggleTheme = startTheme(part("theme"), () => thresholds.redraw());
  const actions = {
    o: () => part("file").click(),
    "/": () => ask.area.focus(),
    n: () => boxes.selectNext(1),
    p: () => boxes.selectNext(-1),
    "+": () => viewport.zoomIn(),
    "=": () => viewport.zoomIn(),
    "-": () => viewport.zoomOut(),
    0: () => viewport.fit(),
    m: () => masksSwitch.closest("label")?.hidden || masksSwitch.click(),
    d: toggleTheme,
    "?": openHelp,
    Escape: () => {
      if (!detection.cancel()) boxes.select(null);
    },
  };
  listen(actions, /** @type {HTMLInputElement} */ (part("shortcuts")));
}

// --- Begin ---

function showFactsOfService() {
  const { segmenter, examples } = facts;
  showModel(part, facts, (word) => ask.add(word));
  thresholds.start(facts);
  boxes.limits = { maxBoxes: facts.defaults.max_boxes, minBoxPx: facts.defaults.min_box_px };
  part("masks-label").hidden = !segmenter;
  part("empty-hint").hidden = !examples.length;
  showExamples(
    part("examples"),
    examples,
    (path) => new URL(path, SERVICE).href,
    (index) => {
      const example = examples[index];
      if (!ask.isTyped || ask.isEmpty) ask.show(example);
      openListed(example);
    },
  );
  part("about").textContent =
    `prelabel ${facts.service_version}, model version ${facts.model_version}` +
    (segmenter ? `, masks by ${segmenter.title}.` : ".");
}

async function begin() {
  listenToPictures(
    {
      file: part("file"),
      openers: [part("open"), part("open-too")],
      target: boxes.stage.root,
    },
    (file) => load(() => openFile(file)),
    (sentence) => messages.tell(sentence),
  );
  listenToButtons();
  listenToKeys();
  enableTaking(false);
  facts = await connection.connect();
  messages.hide();
  showFactsOfService();
  applyLink();
  addEventListener("hashchange", () => {
    // "#prompt" alone is the link that skips to the prompt.
    if (location.hash.includes("=")) applyLink();
    else remember();
  });
}

begin();
