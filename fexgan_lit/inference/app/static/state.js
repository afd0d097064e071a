// What is shown, in one place, and the link that restores it.

export const STRONGEST = 1.5;

export const state = {
  about: null,
  face: "",
  weights: {}, // by affect, 0..1.5
  units: {}, // by number, those that are set by hand
  shows: "neutral",
  fill: true,
  neutralFirst: false,
  map: { x: "", y: "" },
  film: { keyframes: [], fps: 12, ease: "smooth", seconds: 3 },
};

const listeners = [];
export const whenChanged = (listener) => listeners.push(listener);
export function changed(...what) {
  for (const listener of listeners) listener(new Set(what));
}

// The face and how it is read, as every question about a picture has it.
export const source = () => ({ face: state.face, shows: state.shows, neutral_first: state.neutralFirst });

export const round = (value) => Math.round(value * 100) / 100;

// ---------------------------------------------------------------- expressions

export function preset(names) {
  state.weights = Object.fromEntries(state.about.affects.map((name) => [name, names.includes(name) ? 1 : 0]));
  state.units = {};
  changed("expression");
}

export function setWeights(weights) {
  Object.assign(state.weights, weights);
  if (state.fill && "neutral" in state.weights && !("neutral" in weights)) {
    const others = Object.entries(state.weights).filter(([name]) => name !== "neutral");
    state.weights.neutral = Math.max(0, round(1 - others.reduce((sum, [, value]) => sum + value, 0)));
  }
  changed("expression");
}

export const expression = () => ({
  weights: Object.fromEntries(Object.entries(state.weights).filter(([, value]) => value > 0)),
  units: { ...state.units },
});

export function show(kept) {
  state.weights = { ...Object.fromEntries(state.about.affects.map((name) => [name, 0])), ...kept.weights };
  state.units = { ...kept.units };
  changed("expression");
}

export function named({ weights, units }) {
  const parts = Object.entries(weights).map(([name, value]) => `${name} ${round(value)}`);
  parts.push(...Object.entries(units).map(([unit, value]) => `AU${unit} ${round(value)}`));
  return parts.join(" · ") || "nothing asked for";
}

// ---------------------------------------------------------------- the link

const pairs = (values) => Object.entries(values).map(([name, value]) => `${name}:${round(value)}`).join(",");

const unpaired = (text, known, most) =>
  Object.fromEntries(
    (text || "")
      .split(",")
      .map((part) => part.split(":"))
      .filter(([name, value]) => known.includes(name) && value !== "" && Number.isFinite(Number(value)))
      .map(([name, value]) => [name, Math.min(most, Math.max(0, Number(value)))]),
  );

export function link() {
  const query = new URLSearchParams();
  const { weights, units } = expression();
  if (state.face) query.set("face", state.face);
  query.set("w", pairs(weights));
  if (Object.keys(units).length) query.set("u", pairs(units));
  if (state.shows !== "neutral") query.set("shows", state.shows);
  if (!state.fill) query.set("fill", "0");
  if (state.neutralFirst) query.set("neutral", "1");
  query.set("map", `${state.map.x},${state.map.y}`);
  const { keyframes, fps, ease, seconds } = state.film;
  if (keyframes.length) {
    query.set("film", `${seconds},${fps},${ease}`);
    query.set("keys", keyframes.map((k) => `${round(k.time)}|${pairs(k.weights)}|${pairs(k.units)}`).join(";"));
  }
  const plain = query.toString().replaceAll("%3A", ":").replaceAll("%2C", ",").replaceAll("%7C", "|");
  return `${location.origin}${location.pathname}?${plain.replaceAll("%3B", ";")}`;
}

export function restore(search) {
  const query = new URLSearchParams(search);
  const affects = state.about.affects;
  const units = state.about.units.map(String);
  state.weights = Object.fromEntries(affects.map((name) => [name, 0]));
  Object.assign(
    state.weights,
    query.has("w") ? unpaired(query.get("w"), affects, STRONGEST) : affects.includes("neutral") ? { neutral: 1 } : {},
  );
  state.units = unpaired(query.get("u"), units, 1);
  state.face = query.get("face") || "";
  state.fill = query.get("fill") !== "0";
  state.neutralFirst = state.about.rests && query.get("neutral") === "1";
  if (affects.includes(query.get("shows"))) state.shows = query.get("shows");
  const axes = (query.get("map") || "").split(",").filter((name) => affects.includes(name));
  const moving = affects.filter((name) => name !== "neutral");
  const usual = ["joy", "anger"].filter((name) => moving.includes(name));
  [state.map.x, state.map.y] = axes.length === 2 ? axes : usual.length === 2 ? usual : [moving[0], moving[1] || moving[0]];
  if (query.has("keys")) restoreFilm(query, affects, units);
}

function restoreFilm(query, affects, units) {
  const [seconds, fps, ease] = (query.get("film") || "").split(",");
  state.film.seconds = Math.min(30, Math.max(0.5, Number(seconds) || 3));
  state.film.fps = Math.min(30, Math.max(2, Math.round(Number(fps)) || 12));
  state.film.ease = ease === "linear" ? "linear" : "smooth";
  state.film.keyframes = query
    .get("keys")
    .split(";")
    .slice(0, 32)
    .map((text) => text.split("|"))
    .map(([time, w, u]) => ({
      time: Math.min(state.film.seconds, Math.max(0, Number(time) || 0)),
      weights: unpaired(w, affects, STRONGEST),
      units: unpaired(u, units, 1),
    }))
    .sort((a, b) => a.time - b.time);
}
