// Small helpers around the document.

export const $ = (id) => document.getElementById(id);

export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== undefined && value !== null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

export function toast(message, kind = "error") {
  const box = h("p", { class: `toast ${kind}` }, message);
  $("toasts").append(box);
  setTimeout(() => box.remove(), kind === "error" ? 9000 : 2500);
}

export function saveAs(address, name) {
  const link = h("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
}

export const isTyping = (target) => target.matches("input[type=number], select, textarea, dialog *");

export const percent = (value) => `${Math.round(100 * value)} %`;
