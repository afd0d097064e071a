// The face, large, once a system; what is asked for in words; what the networks read.

import { $, h, percent, saveAs, toast } from "./dom.js";
import { newestOnly, post } from "./net.js";
import { expression, named, source, state } from "./state.js";

let easels = [];
let pictures = [];
let given = null;
let resting = 0; // until the readings are asked for
const painted = [];
export const whenPainted = (listener) => painted.push(listener);

export function buildStage() {
  easels = state.about.systems.map((system) => {
    const img = h("img", { class: "face", alt: "The generated face", draggable: "false" });
    const trouble = h("p", { class: "trouble", hidden: true });
    const caption = h("figcaption", {}, system.label, h("small", {}, `${system.model}, ${system.size} px`));
    const figure = h("figure", { class: "easel waiting" }, h("div", { class: "frame" }, img, trouble), caption);
    return { figure, img, trouble };
  });
  $("easels").dataset.count = easels.length;
  if (easels.length > 1) layPair();
  $("easels").append(...easels.map((easel) => easel.figure));
  bindTools();
}

// Two systems need room for two faces, and for what is read in both.
function layPair() {
  document.body.classList.add("pair");
  document.querySelector(".column").append(document.querySelector(".cast"));
  document.querySelector(".units").before(document.querySelector(".readings"));
}

// ---------------------------------------------------------------- painting

const ask = newestOnly(
  (question) => post("/api/paint", question),
  (answer, question) => {
    if (question.face !== state.face) return;
    pictures = answer.pictures;
    pictures.forEach((one, i) => showOne(easels[i], one));
    $("timing").textContent = `painted in ${Math.round(answer.ms)} ms`;
    resting = setTimeout(() => askReadings(pictures.map((one) => one.key || null)), 150);
    for (const listener of painted) listener(answer, question);
  },
  (error) => {
    easels.forEach((easel) => showOne(easel, { error: error.message }));
    toast(error.message);
  },
);

// What the networks read is asked for when the sliders rest, so that no picture waits for it.
const askReadings = newestOnly(
  (keys) => post("/api/read", { keys }),
  ({ readings }, keys) => {
    if (pictures.some((one, i) => (one.key || null) !== keys[i])) return;
    pictures.forEach((one, i) => (one.readings = readings[i]));
    showReadings();
  },
  () => {}, // painted over meanwhile: the next picture is read
);

function showOne(easel, one) {
  easel.figure.classList.remove("waiting");
  easel.img.hidden = Boolean(one.error);
  easel.trouble.hidden = !one.error;
  easel.trouble.textContent = one.error || "";
  if (one.picture) easel.img.src = one.picture;
}

export function repaint() {
  clearTimeout(resting);
  $("wish").textContent = named(expression());
  if (state.face) ask({ ...source(), ...expression() });
}

export function showFrame(frames) {
  frames.forEach((src, i) => (easels[i].img.src = src));
}

export function showPainted() {
  pictures.forEach((one, i) => showOne(easels[i], one));
}

export const pictureNow = () => (pictures[0] && pictures[0].picture) || "";

export function forgetGiven() {
  given = null;
}

// ---------------------------------------------------------------- tools

export async function compare(on) {
  if (!state.face) return;
  if (!on) {
    document.body.classList.remove("comparing");
    showPainted();
    return;
  }
  document.body.classList.add("comparing");
  try {
    given = given || (await post("/api/source", { face: state.face, shows: state.shows })).picture;
    if (document.body.classList.contains("comparing")) easels.forEach((easel) => (easel.img.src = given));
  } catch (error) {
    toast(error.message);
  }
}

export function save() {
  pictures.forEach((one, i) => {
    if (one.file) saveAs(one.file, `${pictureName()}${easels.length > 1 ? `_${i + 1}` : ""}.png`);
  });
}

export function pictureName() {
  const face = state.face.split(":")[0] === "upload" ? "picture" : state.face.split(":")[1] || "face";
  const asked = Object.entries(expression().weights).map(([name, value]) => `${name}-${value}`);
  return [face, ...asked].join("_").replaceAll(/[^\w.-]+/g, "_").slice(0, 80);
}

function bindTools() {
  const button = $("compare");
  button.addEventListener("pointerdown", () => compare(true));
  for (const name of ["pointerup", "pointerleave", "pointercancel"]) {
    button.addEventListener(name, () => document.body.classList.contains("comparing") && compare(false));
  }
  button.addEventListener("keydown", (e) => [" ", "Enter"].includes(e.key) && !e.repeat && compare(true));
  button.addEventListener("keyup", (e) => [" ", "Enter"].includes(e.key) && compare(false));
  $("save").addEventListener("click", save);
}

// ---------------------------------------------------------------- readings

function bar(label, values, asked) {
  const cells = values.map((value, k) => {
    const fill = h("i", { class: k ? "judge" : "" });
    fill.style.width = `${100 * value}%`;
    return h("span", { class: "meter", title: `${label}: ${percent(value)}` }, fill);
  });
  const numbers = values.map((value, k) => h("b", { class: k ? "judge" : "" }, String(Math.round(100 * value))));
  return h("div", { class: asked ? "reading asked" : "reading" }, h("span", {}, label), h("span", { class: "meters" }, ...cells), ...numbers);
}

function readingOf(one, system, hasJudge) {
  const box = h("div", { class: "reading-of" });
  if (state.about.systems.length > 1) box.append(h("h3", {}, system.label));
  if (!one.readings) return box;
  const { realness, affects, units, judge } = one.readings;
  const legend = h("p", { class: "legend" });
  if (realness !== null) legend.append(h("span", { class: "pill" }, `real to the discriminator: ${percent(realness)}`));
  const sources = [affects && ["discriminator", affects], judge && ["judge", judge]].filter(Boolean);
  for (const [name] of sources) legend.append(h("span", { class: `of ${name}` }, name));
  box.append(legend);
  for (const name of system.affects) {
    if (!sources.length) break;
    const row = bar(name, sources.map(([, shares]) => shares[name]), (state.weights[name] || 0) > 0.05);
    if (!affects) row.querySelectorAll("i, b").forEach((part) => part.classList.add("judge"));
    box.append(row);
  }
  if (units) {
    box.append(h("p", { class: "note" }, "Action units that the critic reads"));
    const bars = Object.entries(units).map(([unit, value]) => bar(`AU${unit}`, [value], unit in state.units));
    box.append(h("div", { class: "unit-readings" }, ...bars));
  }
  const notes = [];
  if (realness === null) notes.push("This discriminator gives no probability that a face alone is real.");
  if (!affects && !units) notes.push("It names no affects.");
  if (!hasJudge) notes.push("No judge of this run's data is in the cache; training or evaluating with one leaves it there.");
  if (notes.length) box.append(h("p", { class: "note" }, notes.join(" ")));
  return box;
}

export function showReadings() {
  const { systems, judges } = state.about;
  const boxes = pictures.map((one, i) => readingOf(one, systems[i], judges[i] || Boolean(one.readings && one.readings.judge)));
  $("readings").replaceChildren(...boxes);
  const silent = (one) => one.readings && !Object.values(one.readings).some(Boolean);
  document.querySelector(".readings").hidden = pictures.every(silent); // MIEN's critic sees pairs of faces, and names nothing
}

