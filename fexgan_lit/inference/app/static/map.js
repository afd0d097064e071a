// The map: two affects as axes, faces in the background, a dot that follows.

import { $, h, toast } from "./dom.js";
import { newestOnly, post } from "./net.js";
import { changed, round, setWeights, source, state } from "./state.js";

let steps = 5;

const load = newestOnly(
  (question) => post("/api/map", question),
  (answer, question) => {
    if (question.face !== state.face) return;
    steps = answer.steps;
    $("pad").style.backgroundImage = `url(${answer.picture})`;
    $("pad").classList.remove("waiting");
  },
  (error) => {
    $("pad").classList.remove("waiting");
    toast(error.message);
  },
);

export function buildMap() {
  const moving = state.about.affects.filter((name) => name !== "neutral");
  document.querySelector(".map").hidden = moving.length < 2;
  for (const axis of ["x", "y"]) {
    const select = $(`map-${axis}`);
    select.append(...moving.map((name) => h("option", {}, name)));
    select.value = state.map[axis];
    select.addEventListener("change", () => {
      state.map[axis] = select.value;
      changed("map");
    });
  }
  bindPointer();
  $("pad").addEventListener("keydown", byKey);
}

export function loadMap() {
  if (!state.face || document.querySelector(".map").hidden) return;
  $("pad").classList.add("waiting");
  load({ ...source(), ...state.map });
}

// A tile's centre is a strength of the grid, so positions run from half a tile to half a tile before the end.
const toShare = (value) => (value * (steps - 1) + 0.5) / steps;
const toStrength = (share) => Math.min(1, Math.max(0, (share * steps - 0.5) / (steps - 1)));

function place(event) {
  const box = $("pad").getBoundingClientRect();
  return { x: toStrength((event.clientX - box.left) / box.width), y: toStrength(1 - (event.clientY - box.top) / box.height) };
}

function go({ x, y }) {
  const weights = Object.fromEntries(Object.keys(state.weights).map((name) => [name, 0]));
  if ("neutral" in weights) weights.neutral = Math.max(0, round(1 - x - y)); // as the tiles are painted
  weights[state.map.x] = round(x);
  weights[state.map.y] = round(state.map.x === state.map.y ? Math.max(x, y) : y);
  state.units = {};
  setWeights(weights);
}

const now = () => ({ x: state.weights[state.map.x] || 0, y: state.weights[state.map.y] || 0 });

export function showDot() {
  const { x, y } = now();
  const dot = $("dot").style;
  dot.left = `${100 * toShare(Math.min(1, x))}%`;
  dot.top = `${100 * (1 - toShare(Math.min(1, y)))}%`;
  $("pad").setAttribute("aria-valuenow", round(x));
  $("pad").setAttribute("aria-valuetext", `${state.map.x} ${round(x)}, ${state.map.y} ${round(y)}`);
}

function bindPointer() {
  const pad = $("pad");
  let held = false;
  pad.addEventListener("pointerdown", (event) => {
    held = true;
    pad.setPointerCapture(event.pointerId);
    go(place(event));
  });
  pad.addEventListener("pointerup", () => (held = false));
  pad.addEventListener("pointercancel", () => (held = false));
  pad.addEventListener("pointermove", (event) => {
    if (held || $("follow").checked) go(place(event));
  });
}

function byKey(event) {
  const by = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
  if (!by) return;
  event.preventDefault();
  const size = event.shiftKey ? 0.25 : 0.05;
  const { x, y } = now();
  const within = (value) => Math.min(1, Math.max(0, value));
  go({ x: within(x + by[0] * size), y: within(y + by[1] * size) });
}
