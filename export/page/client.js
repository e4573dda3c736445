// A client of the server's public API.

let token = null;

/** Makes every later request carry a bearer token. */
export function authorise(value) {
  token = value;
}

/** Sends a request; throws the server's message if it returns an error. */
export async function request(path, options = {}) {
  const headers = { ...options.headers };
  if (token !== null) headers.Authorization = `Bearer ${token}`;
  const response = await fetch(path, { ...options, headers });
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  throw new Error(body.error ?? `the server returned status ${response.status}`);
}

/** Opens a model: its input shape, the names of its classes, and a function from pixels to probabilities. */
export async function openModel(name) {
  const path = `v2/models/${encodeURIComponent(name)}`;
  const metadata = await (await request(path)).json();
  const shape = metadata.inputs[0].shape.slice(1);

  /** Probabilities of one image [C, H, W]: a Uint8Array of 0 to 255, or a Float32Array in [0, 1]. */
  async function classify(pixels) {
    const datatype = pixels instanceof Uint8Array ? "UINT8" : "FP32";
    const tensor = { name: "images", datatype, shape: [1, ...shape], parameters: { binary_data_size: pixels.byteLength } };
    const head = new TextEncoder().encode(JSON.stringify({ inputs: [tensor] }));
    const response = await request(`${path}/infer`, {
      method: "POST",
      headers: { "Content-Type": "application/octet-stream", "Inference-Header-Content-Length": String(head.length) },
      body: new Blob([head, pixels]),
    });
    return softmax((await response.json()).outputs[0].data);
  }

  return { shape, classes: metadata.parameters.classes, classify };
}

function softmax(logits) {
  const largest = Math.max(...logits);
  const powers = logits.map((logit) => Math.exp(logit - largest));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}
