// The cast, pictures of the user's, random characters.

import { $, h, toast } from "./dom.js";
import { get, post, upload } from "./net.js";
import { changed, state } from "./state.js";
import { forgetGiven } from "./stage.js";

const MOST_BYTES = 20 * 2 ** 20;
const faces = []; // {id, name, picture}, in the order of the strip

export async function buildGallery() {
  $("random").hidden = !state.about.random;
  $("random").addEventListener("click", addRandom);
  bindUpload();
  bindStrip();
  if (state.about.told_source) {
    $("shows").append(...state.about.affects.map((name) => h("option", {}, name)));
    $("shows").value = state.shows;
    $("shows").addEventListener("change", () => {
      state.shows = $("shows").value;
      changed("expression", "face");
    });
  }
  await showCast();
}

async function showCast() {
  const { faces: cast, note } = await get("/api/faces");
  $("cast-note").textContent = note || `${cast.length} of the run's own`;
  cast.forEach(add);
  const wanted = state.face;
  if (wanted.startsWith("random:") && state.about.random) await addPicture({ id: wanted, name: `no. ${wanted.slice(7)}` });
  if (wanted && !faces.some((face) => face.id === wanted)) {
    toast(wanted.startsWith("upload:") ? "A link cannot carry a dropped picture; another face is shown." : "The link's character is not here; another face is shown.", "note");
  }
  if (!faces.length && state.about.random) await addRandom();
  else if (faces.length) choose(faces.some((face) => face.id === wanted) ? wanted : faces[0].id);
}

function add(face) {
  if (faces.some((known) => known.id === face.id)) return;
  faces.push(face);
  $("cast").append(
    h(
      "button",
      { type: "button", class: "thumb", role: "radio", "data-face": face.id, "aria-checked": "false", tabindex: "-1", onclick: () => choose(face.id) },
      h("img", { src: face.picture, alt: "", width: 64, height: 64 }),
      h("span", {}, face.name),
    ),
  );
}

async function addPicture({ id, name }) {
  try {
    add({ id, name, picture: (await post("/api/source", { face: id })).picture });
  } catch (error) {
    toast(error.message);
  }
}

export function choose(id) {
  state.face = id;
  forgetGiven();
  for (const thumb of $("cast").children) {
    const isIt = thumb.dataset.face === id;
    thumb.setAttribute("aria-checked", isIt);
    thumb.tabIndex = isIt ? 0 : -1;
    if (isIt) $("cast").scrollTo({ left: thumb.offsetLeft - $("cast").clientWidth / 2, behavior: "auto" });
  }
  $("shows-row").hidden = !(state.about.told_source && id.startsWith("upload:"));
  if (!id.startsWith("upload:")) state.shows = "neutral";
  changed("face", "expression");
}

export function step(by) {
  const now = faces.findIndex((face) => face.id === state.face);
  if (faces.length) choose(faces[(now + by + faces.length) % faces.length].id);
}

function bindStrip() {
  $("cast").addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    step(by);
    $("cast").querySelector("[aria-checked=true]").focus();
  });
}

export async function addRandom() {
  $("random").disabled = true;
  try {
    const { faces: made } = await post("/api/characters", { count: 4 });
    made.forEach(add);
    choose(made[0].id);
  } catch (error) {
    toast(error.message);
  }
  $("random").disabled = false;
}

async function take(file) {
  if (!file) return;
  if (file.size > MOST_BYTES) {
    toast(`The file has ${Math.round(file.size / 2 ** 20)} MiB; expected at most 20 MiB. Make the picture smaller.`);
    return;
  }
  $("drop").classList.add("busy");
  try {
    const face = await upload(file);
    add(face);
    choose(face.id);
  } catch (error) {
    toast(error.message);
  }
  $("drop").classList.remove("busy");
}

function bindUpload() {
  $("file").addEventListener("change", () => {
    take($("file").files[0]);
    $("file").value = "";
  });
  const over = (on) => document.body.classList.toggle("dropping", on);
  addEventListener("dragover", (event) => {
    event.preventDefault();
    over(true);
  });
  addEventListener("dragleave", (event) => event.relatedTarget === null && over(false));
  addEventListener("drop", (event) => {
    event.preventDefault();
    over(false);
    take(event.dataTransfer.files[0]);
  });
  addEventListener("paste", (event) => take([...event.clipboardData.files].find((file) => file.type.startsWith("image/"))));
}
