// The speed of the server, from its metrics in Prometheus' text format.

const WINDOW = 60_000; // milliseconds
const EVERY = 2_000;
const ROWS = [
  ["Requests", (d) => d.request_seconds.count.toLocaleString("en")],
  ["Request, median", (d) => time(quantile(d.request_seconds, 0.5))],
  ["Request, 95th percentile", (d) => time(quantile(d.request_seconds, 0.95))],
  ["Wait for a batch, median", (d) => time(quantile(d.queue_seconds, 0.5))],
  ["Engine call, median", (d) => time(quantile(d.inference_seconds, 0.5))],
  ["Images per call, mean", (d) => (d.batch_images.count ? (d.batch_images.sum / d.batch_images.count).toFixed(1) : "–")],
];

/** Updates a table while the page is open; reports the version being served, or null if the server does not respond. */
export function watch(table, read, report) {
  const body = table.tBodies[0];
  const cells = ROWS.map(([title]) => {
    const row = body.insertRow();
    const head = document.createElement("th");
    head.scope = "row";
    head.textContent = title;
    row.append(head);
    return [0, 1].map(() => Object.assign(row.insertCell(), { className: "number", textContent: "–" }));
  });
  let samples = [];

  async function look() {
    if (!document.hidden) {
      const now = parse(await read());
      const last = samples.at(-1);
      if (last && now.request_seconds.count < last.request_seconds.count) samples = []; // another server
      samples.push(now);
      while (samples[0].time < now.time - WINDOW) samples.shift();
      const recent = difference(now, samples[0]);
      ROWS.forEach(([, figure], index) => {
        cells[index][0].textContent = figure(recent);
        cells[index][1].textContent = figure(now);
      });
      report(now.version);
    }
  }

  const loop = () => look().catch(() => report(null)).finally(() => setTimeout(loop, EVERY));
  loop();
}

/** Each histogram as its sum, its count and its [upper bound, cumulative count] pairs. */
function parse(text) {
  const found = { time: Date.now(), version: /^tscnc_model\{.*version="([^"]*)"/m.exec(text)?.[1] };
  for (const name of ["request_seconds", "queue_seconds", "inference_seconds", "batch_images"]) {
    const value = (end) => Number(new RegExp(`^tscnc_${name}_${end} (.+)$`, "m").exec(text)?.[1] ?? 0);
    const buckets = [...text.matchAll(new RegExp(`^tscnc_${name}_bucket\\{le="([^"]+)"\\} (.+)$`, "gm"))];
    found[name] = {
      sum: value("sum"),
      count: value("count"),
      buckets: buckets.map(([, bound, count]) => [bound === "+Inf" ? Infinity : Number(bound), Number(count)]),
    };
  }
  return found;
}

function difference(now, before) {
  const names = Object.keys(now).filter((name) => now[name].buckets);
  return Object.fromEntries(names.map((name) => {
    const [a, b] = [now[name], before[name]];
    const buckets = a.buckets.map(([bound, count], index) => [bound, count - b.buckets[index][1]]);
    return [name, { sum: a.sum - b.sum, count: a.count - b.count, buckets }];
  }));
}

/** Interpolates inside the bucket of the quantile; null without observations, Infinity beyond the last bound. */
export function quantile({ count, buckets }, share) {
  if (!count) return null;
  let [lower, below] = [0, 0];
  for (const [bound, within] of buckets) {
    if (within >= share * count) {
      return bound === Infinity ? Infinity : lower + ((bound - lower) * (share * count - below)) / (within - below);
    }
    [lower, below] = [bound, within];
  }
  return Infinity;
}

/** Two digits, the precision of a histogram. */
export function time(seconds) {
  if (seconds === null) return "–";
  if (seconds === Infinity) return "more than 10 s";
  const rounded = Number(seconds.toPrecision(2)); // back to a number, as 150 would be written 1.5e+2
  return rounded < 1 ? `${Number((rounded * 1000).toPrecision(2))} ms` : `${rounded} s`;
}
