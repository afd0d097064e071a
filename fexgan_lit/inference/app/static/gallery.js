// The cast, pictures of the user's, random characters.

import { $, h, saveAs, toast } from "./dom.js";
import { get, post, postForFile, upload } from "./net.js";
import { changed, expression, source, state } from "./state.js";
import { forgetGiven, pictureName } from "./stage.js";

const MOST_BYTES = 20 * 2 ** 20;
const faces = []; // {id, name, picture, note}, in the order of the strip; those of a photograph also {photo}
let shown = null; // the photograph on which a box is drawn: {photo, preview, note, count}

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
  const { photo, note } = faces.find((face) => face.id === id);
  $("face-note").textContent = [photo?.note, note].filter(Boolean).join(" ");
  $("photo-tools").hidden = !photo;
  $("all-faces").closest("label").hidden = !(photo?.count > 1);
  shown = photo;
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
    const { faces: found, ...photo } = await upload(file);
    photo.count = photo.note ? 0 : found.length; // with a note the face is a guess
    found.forEach((face) => add({ ...face, photo }));
    choose(found[0].id);
  } catch (error) {
    toast(error.message);
  }
  $("drop").classList.remove("busy");
}

// ---------------------------------------------------------------- photographs

async function savePhoto() {
  $("save-photo").disabled = true;
  try {
    for (const system of state.about.systems.keys()) {
      const asked = { ...source(), all: shown.count > 1 && $("all-faces").checked, system };
      const file = await postForFile("/api/photo", { ...asked, ...expression() });
      const address = URL.createObjectURL(file);
      saveAs(address, `${pictureName()}${state.about.systems.length > 1 ? `_${system + 1}` : ""}.png`);
      setTimeout(() => URL.revokeObjectURL(address), 10000);
    }
  } catch (error) {
    toast(error.message);
  }
  $("save-photo").disabled = false;
}

// The box is drawn with the pointer, or moved with the arrow keys and sized with Shift.
function bindBox() {
  const area = $("crop-area");
  let box = [0.3, 0.3, 0.7, 0.7]; // left, top, right, bottom as shares of the photograph
  let start = null;
  const show = (next) => {
    box = next.map((value) => Math.min(1, Math.max(0, value)));
    const [left, top, right, bottom] = box;
    Object.assign($("crop-box").style, {
      left: `${100 * left}%`, top: `${100 * top}%`, width: `${100 * (right - left)}%`, height: `${100 * (bottom - top)}%`,
    });
  };
  const place = (event) => {
    const frame = area.getBoundingClientRect();
    return [(event.clientX - frame.left) / frame.width, (event.clientY - frame.top) / frame.height];
  };
  area.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    area.focus();
    area.setPointerCapture(event.pointerId);
    start = place(event);
  });
  area.addEventListener("pointermove", (event) => {
    if (!start) return;
    const [x, y] = place(event);
    show([Math.min(start[0], x), Math.min(start[1], y), Math.max(start[0], x), Math.max(start[1], y)]);
  });
  area.addEventListener("pointerup", () => (start = null));
  area.addEventListener("keydown", (event) => {
    const [x, y] = { ArrowLeft: [-0.01, 0], ArrowRight: [0.01, 0], ArrowUp: [0, -0.01], ArrowDown: [0, 0.01] }[event.key] || [];
    if (x === undefined) return;
    event.preventDefault();
    const [left, top, right, bottom] = box;
    show(event.shiftKey ? [left, top, right + x, bottom + y] : [left + x, top + y, right + x, bottom + y]);
  });
  $("draw-box").addEventListener("click", () => {
    $("crop-picture").src = shown.preview;
    show(box);
    $("crop").returnValue = "";
    $("crop").showModal();
  });
  $("crop").addEventListener("close", async () => {
    if ($("crop").returnValue !== "use") return;
    try {
      const face = await post("/api/crop", { photo: shown.photo, box });
      shown.note = "";
      shown.count += 1;
      add({ ...face, photo: shown });
      choose(face.id);
    } catch (error) {
      toast(error.message);
    }
  });
  $("save-photo").addEventListener("click", savePhoto);
}

function bindUpload() {
  bindBox();
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
