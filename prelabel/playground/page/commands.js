/** Things to copy and to download. */

/**
 * Copy a text, also where the browser offers no clipboard: it does so over HTTPS and on localhost only.
 * @param {Promise<string>} text
 * @returns {Promise<boolean>} false if the browser does not allow it
 */
export async function copy(text) {
  try {
    const blob = text.then((letters) => new Blob([letters], { type: "text/plain" }));
    // Safari loses the right to copy while it waits for the text, unless it gets the promise.
    await navigator.clipboard.write([new ClipboardItem({ "text/plain": blob })]);
    return true;
  } catch {
    return copyByCommand(await text);
  }
}

/** @param {string} text @returns {boolean} */
function copyByCommand(text) {
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "off-screen";
  const focused = document.activeElement;
  document.body.append(area);
  area.select();
  try {
    return document.execCommand("copy");
  } finally {
    area.remove();
    if (focused instanceof HTMLElement) focused.focus();
  }
}

/** @param {Blob} blob @param {string} name */
export function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** @param {string} title @returns {string} the name of a file without its ending */
export function stem(title) {
  return title.replace(/\.[^.]*$/, "") || "picture";
}
