// Presets, a slider for each affect and each action unit.

import { $, h, toast } from "./dom.js";
import { post } from "./net.js";
import { changed, expression, preset, round, setWeights, show, state, STRONGEST } from "./state.js";
import { whenPainted } from "./stage.js";

const UNIT_NAMES = {
  1: "inner brow raiser", 2: "outer brow raiser", 4: "brow lowerer", 5: "upper lid raiser", 6: "cheek raiser",
  7: "lid tightener", 9: "nose wrinkler", 10: "upper lip raiser", 12: "lip corner puller", 14: "dimpler",
  15: "lip corner depressor", 17: "chin raiser", 20: "lip stretcher", 23: "lip tightener", 25: "lips part",
  26: "jaw drop", 45: "blink",
};

const rows = { affects: {}, units: {} };
export let presets = [];

function slider(name, label, most, changedTo) {
  const input = h("input", { type: "range", min: 0, max: most, step: 0.01, value: 0, id: name, "data-name": label });
  const value = h("output", { for: name }, "0");
  input.addEventListener("input", () => changedTo(Number(input.value)));
  const row = h("div", { class: "slider" }, h("label", { for: name }, label), h("span", { class: "rail" }, input), value);
  if (most > 1) row.classList.add("strong");
  return { row, input, value, most };
}

// The most that every system saw in training.
const largest = (unit) => Math.min(...state.about.systems.map((system) => system.largest_units?.[unit] ?? 1));

function put({ row, input, value, most, trained = 1 }, number) {
  const past = number > trained + 0.0001;
  input.value = number;
  input.style.setProperty("--p", `${(100 * number) / most}%`);
  value.textContent = number.toFixed(2);
  row.classList.toggle("past", past);
  row.classList.toggle("on", number > 0);
  input.setAttribute("aria-valuetext", past ? `${number.toFixed(2)}, beyond training` : number.toFixed(2));
}

export function buildSliders() {
  const { affects, complex, units } = state.about;
  presets = [...affects.map((name) => [name]), ...complex];
  $("presets").append(
    ...presets.map((names, i) =>
      h(
        "button",
        { type: "button", class: names.length > 1 ? "chip complex" : "chip", "data-preset": names.join("+"), title: i < 9 ? `Key ${i + 1}` : null, onclick: () => preset(names) },
        names.join(" + "),
      ),
    ),
  );
  showNamed(state.about.expressions);
  $("save-expression").hidden = !state.about.may_save;
  $("save-expression").addEventListener("click", saveExpression);
  for (const name of affects) {
    rows.affects[name] = slider(`affect-${name}`, name, STRONGEST, (value) => setWeights({ [name]: value }));
    $("affects").append(rows.affects[name].row);
  }
  $("units-card").hidden = !units.length;
  for (const unit of units) {
    const name = `AU${unit} ${UNIT_NAMES[unit] || ""}`;
    rows.units[unit] = slider(`unit-${unit}`, name, 1, (value) => {
      state.units[unit] = value;
      changed("expression");
    });
    rows.units[unit].trained = largest(unit);
    $("units").append(rows.units[unit].row);
  }
  $("release").addEventListener("click", () => {
    state.units = {};
    changed("expression");
  });
  $("fill").checked = state.fill;
  $("fill").addEventListener("change", () => {
    state.fill = $("fill").checked;
    if (state.fill) setWeights({});
    else changed("link");
  });
  $("neutral-first").checked = state.neutralFirst;
  $("neutral-first").closest("label").hidden = !state.about.rests;
  $("neutral-first").addEventListener("change", () => {
    state.neutralFirst = $("neutral-first").checked;
    changed("expression", "face");
  });
  $("fill").closest("label").hidden = !affects.includes("neutral");
  whenPainted(followAffects);
}

// ---------------------------------------------------------------- named expressions

function showNamed(expressions) {
  const chips = expressions.map(({ name, ...kept }) => h("button", { type: "button", class: "chip complex", onclick: () => show(kept) }, name));
  $("named").replaceChildren(...chips);
}

async function saveExpression() {
  const name = prompt("Name of this expression");
  if (!name) return;
  try {
    showNamed((await post("/api/save", { name, ...expression() })).expressions);
    toast(`${name} is saved.`, "note");
  } catch (error) {
    toast(error.message);
  }
}

export function showSliders() {
  for (const [name, row] of Object.entries(rows.affects)) put(row, round(state.weights[name] || 0));
  for (const [unit, row] of Object.entries(rows.units)) {
    row.row.classList.toggle("pinned", unit in state.units);
    if (unit in state.units) put(row, round(state.units[unit]));
  }
  const on = Object.entries(state.weights).filter(([, value]) => value > 0);
  const exact = on.every(([, value]) => value === 1) && !Object.keys(state.units).length;
  const now = on.map(([name]) => name).sort().join("+");
  for (const chip of $("presets").children) {
    const isIt = exact && chip.dataset.preset.split("+").sort().join("+") === now;
    chip.setAttribute("aria-pressed", isIt);
  }
  $("beyond").hidden = on.every(([, value]) => value <= 1);
  $("release").disabled = !Object.keys(state.units).length;
}

// Sliders of units that nobody set show what the affects mean.
function followAffects(answer) {
  const asked = answer.pictures.map((one) => one.units).find(Boolean);
  for (const [unit, row] of Object.entries(rows.units)) {
    if (asked && !(unit in state.units)) put(row, round(asked[unit]));
  }
  const past = Object.entries(rows.units).filter(([, { row }]) => row.classList.contains("past"));
  $("units-beyond").textContent = past.map(([unit, { trained }]) => `AU${unit} was at most ${trained.toFixed(2)} in training.`).join(" ");
}
