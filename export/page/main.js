// The behaviour of the page: its forms, and the token if the server requires one.

import { authorise, openModel, request } from "./client.js";
import { watch } from "./latency.js";
import { figure, pixelsOf } from "./pictures.js";

const byId = (id) => document.getElementById(id);

if (byId("unlock")) {
  byId("unlock").addEventListener("submit", (event) => {
    event.preventDefault();
    unlock(byId("token").value);
  });
} else {
  start();
}

/** Requests the page again, with the token. XMLHttpRequest parses a document without running anything in it. */
function unlock(token) {
  const asked = new XMLHttpRequest();
  asked.open("GET", location.pathname);
  asked.responseType = "document";
  asked.onload = () => {
    const main = asked.status === 200 && asked.response?.querySelector("main[data-model]");
    if (!main) return reject();
    authorise(token);
    document.title = asked.response.title;
    document.querySelector("main").replaceWith(main);
    for (const link of main.querySelectorAll("a")) link.removeAttribute("href"); // a link would not carry the token
    return start();
  };
  asked.onerror = () => { byId("unlock-status").textContent = "The server does not respond."; };
  try {
    asked.setRequestHeader("Authorization", `Bearer ${token}`);
    asked.send();
  } catch {
    reject(); // characters that a header cannot contain
  }
}

function reject() {
  byId("unlock-status").textContent = "Wrong token.";
  byId("token").select();
}

async function start() {
  const { model: name, version } = document.querySelector("main").dataset;
  watch(byId("latency"), async () => (await request("metrics")).text(), (served) => {
    if (served === null) notice("The server does not respond.");
    else notice(served === version ? "" : `The server has loaded version ${served}; reload this page to see it.`);
  });
  const model = await openModel(name);
  if (byId("file")) takeFiles(model);
  if (byId("example")) showExamples(model);
}

function notice(text) {
  if (byId("notice").textContent !== text) byId("notice").textContent = text; // otherwise screen readers would read it out again
  byId("notice").hidden = !text;
}

function takeFiles(model) {
  const [drop, file] = [byId("drop"), byId("file")];
  const show = latest(byId("tried"), byId("try-status"), async (given) => {
    const pixels = await pixelsOf(given, model.shape);
    const started = performance.now();
    const probabilities = await model.classify(pixels);
    const took = performance.now() - started;
    return [[figure("Model input", pixels, model.shape, probabilities, model.classes)],
      `${given.name}: round trip ${took.toFixed(1)} ms.`];
  });
  file.addEventListener("change", () => file.files.length && show(file.files[0]));
  for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
    drop.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", kind === "dragenter" || kind === "dragover");
    });
  }
  drop.addEventListener("drop", (event) => event.dataTransfer.files.length && show(event.dataTransfer.files[0]));
}

function showExamples(model) {
  const choice = byId("example");
  const show = latest(byId("pair"), byId("pair-status"), async (option) => {
    const both = new Float32Array(await (await request(`page/examples/${option.value}`)).arrayBuffer());
    const pair = [both.subarray(0, both.length / 2), both.subarray(both.length / 2)];
    const found = await Promise.all(pair.map(model.classify));
    const label = option.dataset.label;
    const figures = ["Original", "Attacked"].map((title, place) =>
      figure(title, pair[place], model.shape, found[place], model.classes, label));
    return [figures, outcome(label, ...found.map((shares) => model.classes[shares.indexOf(Math.max(...shares))]))];
  });
  const step = (by) => {
    choice.selectedIndex = (choice.selectedIndex + by + choice.length) % choice.length;
    show(choice.selectedOptions[0]);
  };
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  choice.addEventListener("change", () => step(0));
  step(0);
}

function outcome(label, before, after) {
  if (before !== label) return `Misclassified: the model predicts ${before} even for the original.`;
  return after === label
    ? `Robust: the model predicts ${label} for both.`
    : `Fooled: the model predicts ${label} for the original and ${after} for the attacked image.`;
}

/** Returns a function that runs `work` and shows its result for the most recent value, or the error. */
function latest(place, status, work) {
  let calls = 0;
  return async (value) => {
    const call = ++calls;
    const [figures, words] = await work(value).catch((error) => [[], `Error: ${error.message}.`]);
    if (call !== calls) return;
    place.replaceChildren(...figures);
    place.hidden = !figures.length;
    status.textContent = words;
  };
}
