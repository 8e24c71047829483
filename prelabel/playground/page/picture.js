/** Pictures: from a file, the clipboard or the demo, with the size and the first frame to show. */

/**
 * @typedef {object} Picture
 * @property {string} title name of the file or of the example
 * @property {string | null} example name of the example, null for a file of the user
 * @property {Blob | null} file null for an example
 * @property {string} url what the page shows
 * @property {number} width pixels of the upright picture; 0 if the browser cannot show it
 * @property {number} height
 */

/**
 * @param {File} file
 * @returns {Promise<Picture>}
 */
export async function openFile(file) {
  const still = (await isAnimated(file)) ? await firstFrame(file) : file;
  const url = URL.createObjectURL(still);
  const [width, height] = await sizeOf(url);
  return { title: file.name || "picture.png", example: null, file, url, width, height };
}

/**
 * @param {{name: string, title: string}} example
 * @param {string} url
 * @returns {Promise<Picture>}
 */
export async function openExample(example, url) {
  const [width, height] = await sizeOf(url);
  return { title: `${example.name}.jpg`, example: example.name, file: null, url, width, height };
}

/** Free the memory of a picture. @param {Picture | null} picture */
export function release(picture) {
  if (picture?.url.startsWith("blob:")) URL.revokeObjectURL(picture.url);
}

/**
 * @param {Picture} picture
 * @returns {Promise<string>} the form that the service takes: the file as it is, as a data: URL
 */
export async function encoded(picture) {
  if (picture.example) return `example:${picture.example}`;
  const blob = /** @type {Blob} */ (picture.file);
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result));
    reader.onerror = () =>
      reject(new Error(`The file ${picture.title} cannot be read any more. Choose it again.`));
    reader.readAsDataURL(blob);
  });
}

/** @param {DataTransfer | null} transfer @returns {File | null} the first picture */
export function pictureIn(transfer) {
  const files = [...(transfer?.files ?? [])];
  return files.find((file) => file.type.startsWith("image/")) ?? files[0] ?? null;
}

/**
 * The size as the browser shows it, that is, after EXIF's rotation.
 * @param {string} url
 * @returns {Promise<[number, number]>} 0, 0 if the browser cannot show the picture
 */
async function sizeOf(url) {
  const image = new Image();
  image.src = url;
  try {
    await image.decode();
  } catch {
    return [0, 0];
  }
  return [image.naturalWidth, image.naturalHeight];
}

/** @param {Blob} file @returns {Promise<Blob>} PNG, or the file if it cannot be decoded */
async function firstFrame(file) {
  try {
    const bitmap = await createImageBitmap(file);
    const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
    /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d")).drawImage(bitmap, 0, 0);
    bitmap.close();
    return await canvas.convertToBlob({ type: "image/png" });
  } catch {
    return file;
  }
}

/**
 * @param {Blob} file
 * @returns {Promise<boolean>} true for GIF, and for PNG and WebP that say they are animated
 */
async function isAnimated(file) {
  const head = new Uint8Array(await file.slice(0, 4096).arrayBuffer());
  const text = String.fromCharCode(...head);
  if (text.startsWith("GIF8")) return true;
  if (text.startsWith("\x89PNG")) return text.includes("acTL");
  return text.startsWith("RIFF") && text.slice(8, 16) === "WEBPVP8X" && (head[20] & 2) !== 0;
}
