// Keyframes on a track, playing them, and films as files.

import { $, h, saveAs, toast } from "./dom.js";
import { post, postForFile } from "./net.js";
import { changed, expression, named, round, show, source, state } from "./state.js";
import { pictureName, pictureNow, showFrame, showPainted, whenPainted } from "./stage.js";

let selected = null; // a keyframe that the sliders change
let playing = null; // {timer}
let shot = { key: "", films: null };

export function buildTimeline() {
  for (const [id, read] of [["seconds", Number], ["fps", (v) => Math.round(Number(v))], ["ease", String]]) {
    $(id).value = state.film[id];
    $(id).addEventListener("change", () => {
      const value = read($(id).value);
      const { min, max } = $(id);
      state.film[id] = id === "ease" ? value : Math.min(Number(max), Math.max(Number(min), value || Number(min)));
      $(id).value = state.film[id];
      if (id === "seconds") fitTimes();
      changed("film");
    });
  }
  $("play").addEventListener("click", toggle);
  $("add-key").addEventListener("click", addKey);
  $("remove-key").addEventListener("click", removeKey);
  $("example").addEventListener("click", example);
  for (const button of document.querySelectorAll("button.export")) {
    button.addEventListener("click", () => exportAs(button));
  }
  $("track").addEventListener("pointerdown", (event) => event.target === $("track") && select(null));
  whenPainted((answer, question) => {
    if (!selected || playing) return;
    selected.picture = pictureNow();
    selected.face = question.face;
    showTrack();
  });
}

// ---------------------------------------------------------------- keyframes

function sorted() {
  state.film.keyframes.sort((a, b) => a.time - b.time);
}

function fitTimes() {
  const last = Math.max(0, ...state.film.keyframes.map((key) => key.time));
  if (last > state.film.seconds) {
    for (const key of state.film.keyframes) key.time = round((key.time / last) * state.film.seconds);
  }
}

function freeTime() {
  const { keyframes, seconds } = state.film;
  if (!keyframes.length) return 0;
  const times = [...keyframes.map((key) => key.time), seconds + (seconds > keyframes.at(-1).time ? 0 : 1)];
  if (keyframes.at(-1).time + 1 <= seconds) return round(keyframes.at(-1).time + 1);
  if (keyframes.at(-1).time < seconds) return seconds;
  const gaps = times.slice(1, -1).map((time, i) => [time - times[i], (time + times[i]) / 2]);
  return round(gaps.sort((a, b) => b[0] - a[0])[0][1]);
}

export function addKey() {
  if (state.film.keyframes.length >= 32) {
    toast("A film has at most 32 keyframes.");
    return;
  }
  const key = { time: freeTime(), ...expression(), picture: pictureNow(), face: state.face };
  state.film.keyframes.push(key);
  sorted();
  changed("film");
}

export function removeKey() {
  if (!selected) return;
  state.film.keyframes = state.film.keyframes.filter((key) => key !== selected);
  selected = null;
  changed("film");
}

function example() {
  const has = (name) => state.about.affects.includes(name);
  const names = ["neutral", "joy", "surprise", "neutral"].filter(has);
  const { units } = state.about;
  const steps = names.length > 2 ? names.map((name) => ({ weights: { [name]: 1 }, units: {} }))
    : [{}, { 12: 1, 25: 0.6 }, { 1: 1, 2: 1, 26: 0.7 }, {}].map((set) => ({ weights: {}, units: units.length ? { 1: 0, ...set } : {} }));
  const each = state.film.seconds / (steps.length - 1);
  state.film.keyframes = steps.map((step, i) => ({ time: round(i * each), ...step }));
  selected = null;
  changed("film");
}

function select(key) {
  selected = key;
  if (key) show(key);
  showTrack();
}

// The sliders were moved: a selected keyframe takes what they say.
export function keepInKey() {
  if (!selected || playing) return;
  Object.assign(selected, expression());
}

export function dropPictures() {
  for (const key of state.film.keyframes) if (key.face !== state.face) delete key.picture;
}

async function fillPictures() {
  const bare = state.film.keyframes.filter((key) => !key.picture || key.face !== state.face);
  for (const key of bare) {
    if (!state.face || key.waiting) continue;
    key.waiting = true;
    const face = state.face;
    try {
      const { pictures } = await post("/api/paint", { ...source(), weights: key.weights, units: key.units });
      key.picture = pictures[0].picture;
      key.face = face;
    } catch {
      key.picture = "";
    }
    key.waiting = false;
  }
  if (bare.length) drawTrack();
}

// ---------------------------------------------------------------- the track

export function showTrack() {
  drawTrack();
  fillPictures();
}

function drawTrack() {
  const { keyframes, seconds, fps } = state.film;
  const focused = document.activeElement && document.activeElement.dataset ? document.activeElement.dataset.key : null;
  const marks = Array.from({ length: Math.floor(seconds) + 1 }, (_, s) => {
    const mark = h("span", { class: "mark" }, `${s} s`);
    mark.style.left = `${(100 * s) / seconds}%`;
    return mark;
  });
  $("track").replaceChildren(...marks.slice(0, 31), $("playhead") || h("div", { id: "playhead", class: "playhead" }), ...keyframes.map(keyButton));
  if (focused !== null && focused !== undefined) $("track").querySelector(`[data-key="${focused}"]`)?.focus();
  $("remove-key").disabled = !selected;
  const ready = keyframes.length >= 2;
  for (const button of [$("play"), ...document.querySelectorAll("button.export")]) button.disabled = !ready;
  const length = ready ? keyframes.at(-1).time - keyframes[0].time : 0;
  $("film-note").textContent = selected
    ? `The sliders change the keyframe at ${selected.time.toFixed(1)} s.`
    : ready
      ? `${keyframes.length} keyframes, ${Math.round(length * fps) + 1} frames`
      : "Keep two expressions or more as keyframes, or take the example.";
}

function keyButton(key, index) {
  const label = `${key.time.toFixed(1)} s, ${named(key)}`;
  const button = h(
    "button",
    { type: "button", class: "key", "data-key": index, "aria-label": `Keyframe at ${label}`, title: label, "aria-pressed": key === selected },
    key.picture ? h("img", { src: key.picture, alt: "", draggable: "false" }) : h("span", {}, "…"),
    h("small", {}, key.time.toFixed(1)),
  );
  button.style.left = `${(100 * key.time) / state.film.seconds}%`;
  button.addEventListener("click", () => select(key === selected ? null : key));
  button.addEventListener("keydown", (event) => keyDown(event, key));
  button.addEventListener("pointerdown", (event) => drag(event, key, button));
  return button;
}

function move(key, time) {
  const others = state.film.keyframes.filter((other) => other !== key);
  const wanted = round(Math.min(state.film.seconds, Math.max(0, time)));
  if (others.some((other) => Math.abs(other.time - wanted) < 0.05)) return;
  key.time = wanted;
  sorted();
  changed("film");
}

function keyDown(event, key) {
  const by = { ArrowRight: 0.1, ArrowLeft: -0.1 }[event.key];
  if (by) {
    event.preventDefault();
    move(key, key.time + by);
    $("track").querySelector(`[data-key="${state.film.keyframes.indexOf(key)}"]`).focus();
  }
  if (["Delete", "Backspace"].includes(event.key)) {
    event.preventDefault();
    selected = key;
    removeKey();
  }
}

function drag(event, key, button) {
  const box = $("track").getBoundingClientRect();
  const from = event.clientX;
  let moved = false;
  const follow = (e) => {
    if (!moved && Math.abs(e.clientX - from) < 4) return;
    moved = true;
    const time = ((e.clientX - box.left) / box.width) * state.film.seconds;
    key.time = round(Math.min(state.film.seconds, Math.max(0, time)));
    button.style.left = `${(100 * key.time) / state.film.seconds}%`;
  };
  const end = () => {
    removeEventListener("pointermove", follow);
    removeEventListener("pointerup", end);
    if (!moved) return;
    button.addEventListener("click", (e) => e.stopImmediatePropagation(), { capture: true, once: true });
    while (state.film.keyframes.some((other) => other !== key && Math.abs(other.time - key.time) < 0.05)) {
      key.time = round(key.time >= state.film.seconds ? key.time - 0.1 : key.time + 0.1);
    }
    sorted();
    setTimeout(() => changed("film"));
  };
  addEventListener("pointermove", follow);
  addEventListener("pointerup", end);
}

// ---------------------------------------------------------------- playing and exporting

const question = () => ({
  ...source(),
  fps: state.film.fps,
  ease: state.film.ease,
  keyframes: state.film.keyframes.map(({ time, weights, units }) => ({ time, weights, units })),
});

export async function toggle() {
  if (playing) return stop();
  if (state.film.keyframes.length < 2) return;
  const asked = question();
  const key = JSON.stringify(asked);
  if (shot.key !== key) {
    $("play").disabled = true;
    $("play").textContent = "Painting …";
    try {
      shot = { key, ...(await post("/api/preview", asked)) };
    } catch (error) {
      toast(error.message);
      $("play").textContent = "Play";
      $("play").disabled = false;
      return;
    }
    $("play").disabled = false;
  }
  play();
}

function play() {
  let frame = 0;
  const count = shot.films[0].length;
  const first = state.film.keyframes[0].time;
  $("play").textContent = "Pause";
  document.body.classList.add("playing");
  const tick = () => {
    showFrame(shot.films.map((frames) => frames[frame]));
    $("playhead").style.left = `${(100 * (first + frame / shot.fps)) / state.film.seconds}%`;
    frame = (frame + 1) % count;
  };
  tick();
  playing = setInterval(tick, 1000 / shot.fps);
}

export function stop() {
  if (!playing) return;
  clearInterval(playing);
  playing = null;
  $("play").textContent = "Play";
  document.body.classList.remove("playing");
  showPainted();
}

async function exportAs(button) {
  const kind = button.dataset.format;
  const label = button.textContent;
  button.disabled = true;
  button.textContent = "Painting …";
  try {
    const data = await postForFile("/api/export", { ...question(), format: kind });
    const address = URL.createObjectURL(data);
    saveAs(address, `${pictureName().split("_")[0]}_film.${kind === "png" ? "zip" : kind}`);
    setTimeout(() => URL.revokeObjectURL(address), 60000);
  } catch (error) {
    toast(error.message);
  }
  button.disabled = false;
  button.textContent = label;
}
