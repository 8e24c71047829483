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
    const pasted = pictureIn(event.clipboardData);
    if (!pasted) return;
    event.preventDefault();
    opened(pasted);
  });
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    target.classList.add("is-dropping");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) target.classList.remove("is-dropping");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    target.classList.remove("is-dropping");
    const dropped = pictureIn(event.dataTransfer);
    if (dropped) opened(dropped);
    else tell("Only files can be dropped here. Copy the picture and paste it.");
  });
}
