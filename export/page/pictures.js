// Converts between image files, pixels of a model's input, and the screen.

const SMALL = 96; // pixels; smaller images are drawn with square pixels
const SHOWN = 5; // classes
const FINER = 8; // browsers scale down coarsely, so they scale to this many times the size and we average

/** The centre of an image file as a Uint8Array [C, H, W], C 1 or 3. */
export async function pixelsOf(file, [channels, height, width]) {
  const image = await createImageBitmap(file).catch(() => {
    throw new Error("the browser cannot read this file as an image");
  });
  const scale = Math.min(image.width / width, image.height / height);
  const times = Math.min(Math.max(Math.floor(scale), 1), FINER);
  const { data } = middle(image, width * scale, height * scale, width * times, height * times);
  image.close();
  const area = width * height;
  const sums = new Float32Array(3 * area);
  for (let i = 0; i < data.length / 4; i++) {
    const [x, y] = [i % (width * times), Math.floor(i / (width * times))];
    const place = Math.floor(y / times) * width + Math.floor(x / times);
    for (let colour = 0; colour < 3; colour++) sums[colour * area + place] += data[4 * i + colour];
  }
  const mean = (colour, place) => sums[colour * area + place] / times ** 2;
  return Uint8Array.from({ length: channels * area }, (_, i) => Math.round(channels === 3
    ? mean(Math.floor(i / area), i % area)
    : 0.299 * mean(0, i) + 0.587 * mean(1, i) + 0.114 * mean(2, i)));
}

/** Crops the centre of an image and scales it; transparent pixels become white. */
function middle(image, fromWidth, fromHeight, width, height) {
  const context = new OffscreenCanvas(width, height).getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  const [left, top] = [(image.width - fromWidth) / 2, (image.height - fromHeight) / 2];
  context.drawImage(image, left, top, fromWidth, fromHeight, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}

/** Draws pixels with the model's top classes; label is the correct class, or null if it is unknown. */
export function figure(title, pixels, shape, probabilities, classes, label = null) {
  const ranked = probabilities.map((share, place) => ({ share, name: classes[place] }));
  ranked.sort((a, b) => b.share - a.share);
  const best = ranked[0].name;
  const head = element("figcaption", {}, element("strong", {}, title), `: ${best}`);
  if (label !== null) {
    const right = best === label;
    head.append(" ", element("span", { className: right ? "mark" : "mark bad" }, right ? "✓ correct" : "✗ wrong"));
  }
  const list = element("ol", { className: "classes" }, ...ranked.slice(0, SHOWN).map(bar));
  return element("figure", {}, head, drawn(pixels, shape, `${title}, classified as ${best}`), list);
}

function bar({ name, share }) {
  const filled = element("span", { className: "filled" });
  filled.style.width = `${100 * share}%`;
  const percent = `${(100 * share).toFixed(1)}%`;
  return element("li", {}, element("span", { className: "name" }, name), element("span", { className: "bar" }, filled),
    element("span", { className: "share" }, percent));
}

function drawn(pixels, [channels, height, width], text) {
  const canvas = element("canvas", { width, height, role: "img", ariaLabel: text });
  if (Math.max(width, height) <= SMALL) canvas.className = "pixelated";
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const factor = pixels instanceof Uint8Array ? 1 : 255;
  const area = width * height;
  for (let i = 0; i < area; i++) {
    for (let colour = 0; colour < 3; colour++) {
      image.data[4 * i + colour] = factor * (channels === 3 ? pixels[colour * area + i] : mean(pixels, i, area));
    }
    image.data[4 * i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

function mean(pixels, place, area) {
  let sum = 0;
  for (let i = place; i < pixels.length; i += area) sum += pixels[i];
  return (sum * area) / pixels.length;
}

function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}
