// Puts the parts together: who is told what when something changes, and the keyboard.

import { $, isTyping, toast } from "./dom.js";
import { addRandom, buildGallery, step } from "./gallery.js";
import { buildMap, loadMap, showDot } from "./map.js";
import { get } from "./net.js";
import { buildSliders, presets, showSliders } from "./sliders.js";
import { buildStage, compare, repaint, save } from "./stage.js";
import { link, preset, restore, state, whenChanged } from "./state.js";
import { addKey, buildTimeline, dropPictures, keepInKey, showTrack, stop, toggle } from "./timeline.js";

let writing = 0;

function keepLink() {
  clearTimeout(writing);
  writing = setTimeout(() => history.replaceState(null, "", link()), 200);
}

whenChanged((what) => {
  stop();
  if (what.has("expression")) {
    keepInKey();
    showSliders();
    showDot();
    repaint();
  }
  if (what.has("face")) dropPictures();
  if (what.has("face") || what.has("map")) loadMap();
  if (what.has("map")) showDot();
  if (what.has("film") || what.has("face")) showTrack();
  keepLink();
});

// ---------------------------------------------------------------- light and dark

function setTheme(name) {
  document.documentElement.dataset.theme = name;
  try {
    localStorage.setItem("theme", name);
  } catch {
    // a private window may keep nothing
  }
}

function startTheme() {
  let kept = null;
  try {
    kept = localStorage.getItem("theme");
  } catch {
    // as above
  }
  if (kept) document.documentElement.dataset.theme = kept;
}

function turnTheme() {
  const now = document.documentElement.dataset.theme;
  const dark = now ? now === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  setTheme(dark ? "light" : "dark");
}

// ---------------------------------------------------------------- buttons and keys

async function copyLink() {
  try {
    await navigator.clipboard.writeText(link());
    toast("The link is on the clipboard.", "note");
  } catch {
    history.replaceState(null, "", link());
    toast("The link is in the address bar.", "note");
  }
}

const neutral = () => preset(state.about.affects.includes("neutral") ? ["neutral"] : []);

const KEYS = {
  0: neutral, "[": () => step(-1), "]": () => step(1), r: () => state.about.random && addRandom(),
  c: () => compare(true), s: save, k: addKey, " ": toggle, l: copyLink, t: turnTheme, "?": () => $("keys").showModal(),
};

function bindKeys() {
  addEventListener("keydown", (event) => {
    if (isTyping(event.target) || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === " " && event.target.closest("button, [role=radio]")) return;
    const index = Number(event.key) - 1;
    const action = presets[index] && event.key !== " " ? () => preset(presets[index]) : KEYS[event.key.toLowerCase()];
    if (!action || event.repeat) return;
    event.preventDefault();
    action();
  });
  addEventListener("keyup", (event) => event.key.toLowerCase() === "c" && !isTyping(event.target) && compare(false));
  $("copy-link").addEventListener("click", copyLink);
  $("theme").addEventListener("click", turnTheme);
  $("help").addEventListener("click", () => $("keys").showModal());
  $("reset").addEventListener("click", neutral);
}

async function start() {
  startTheme();
  try {
    state.about = await get("/api/about");
    restore(location.search);
    $("systems").textContent = state.about.systems.map((system) => system.label).join("  ·  ");
    buildStage();
    buildSliders();
    buildMap();
    buildTimeline();
    bindKeys();
    showSliders();
    showTrack();
    await buildGallery();
  } catch (error) {
    toast(error.message);
  }
  document.body.classList.add("ready");
}

start();
