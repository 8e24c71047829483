/** The ways by which a picture comes into the page: dropped, pasted, opened, taken by a phone. */

import { pictureIn } from "./picture.js";

/**
 * @param {{file: HTMLInputElement, openers: HTMLElement[], target: HTMLElement}} parts
 *   target: shows that a picture can be dropped
 * @param {(file: File) => void} opened
 * @param {(sentence: string) => void} tell
 */
export function listenToPictures({ file, openers, target }, opened, tell) {
  for (const opener of openers) opener.addEventListener("click", () => file.click());
  file.addEventListener("change", () => {
    const [chosen] = file.files ?? [];
    if (chosen) opened(chosen);
    file.value = "";
  });
  document.addEventListener("paste", (event) => {
    // Office programs put a picture of a copied text beside it.
    const isText = isField(event.target) && event.clipboardData?.types.includes("text/plain");
    const pasted = isText ? null : pictureIn(event.clipboardData);
    if (!pasted) return;
    event.preventDefault();
    opened(pasted);
  });
  document.addEventListener("dragover", (event) => {
    const hasFiles = event.dataTransfer?.types.includes("Files") ?? false;
    if (!hasFiles && isField(event.target)) return;
    event.preventDefault();
    target.classList.toggle("is-dropping", hasFiles);
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) target.classList.remove("is-dropping");
  });
  document.addEventListener("drop", (event) => {
    target.classList.remove("is-dropping");
    const dropped = pictureIn(event.dataTransfer);
    if (!dropped && isField(event.target)) return;
    event.preventDefault();
    if (dropped) opened(dropped);
    else tell("Only files can be dropped here. Copy the picture and paste it.");
  });
}

/** @param {EventTarget | null} target @returns {boolean} true if text can be put there */
function isField(target) {
  return target instanceof HTMLTextAreaElement || target instanceof HTMLInputElement;
}
