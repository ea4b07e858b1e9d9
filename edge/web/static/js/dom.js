// Elements, numbers and times as text. Text always becomes text nodes: a label may hold any character.

export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (name in element && typeof value !== "string") element[name] = value;
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child != null && child !== false));
  return element;
}

// A button that says what it does and is off while it does it.
export function button(text, act, props = {}) {
  const element = h("button", { type: "button", ...props }, text);
  element.addEventListener("click", async () => {
    if (element.getAttribute("aria-disabled") === "true") return;
    element.setAttribute("aria-disabled", "true");
    try {
      await act(element);
    } finally {
      element.removeAttribute("aria-disabled");
    }
  });
  return element;
}

export function field(label, control, hint) {
  const id = control.id || `f${++field.count}`;
  control.id = id;
  const parts = [h("label", { for: id }, label), control];
  if (hint) {
    const hintId = `${id}-hint`;
    control.setAttribute("aria-describedby", hintId);
    parts.push(h("p", { class: "hint", id: hintId }, hint));
  }
  return h("div", { class: "field" }, parts);
}
field.count = 0;

export const percent = (share) => `${Math.round(100 * share)} %`;
export const seconds = (s) => `${s.toFixed(1)} s`;
export const number = (value, digits = 2) => (value == null ? "–" : value.toFixed(digits));
export const clock = (unix) => new Date(1000 * unix).toLocaleTimeString([], { hour12: false });

export function ago(s) {
  if (s < 1.5) return "now";
  if (s < 90) return `${Math.round(s)} s ago`;
  if (s < 5400) return `${Math.round(s / 60)} min ago`;
  return `${Math.round(s / 3600)} h ago`;
}

// HandTipLeft -> left hand tip
export function jointWords(joint) {
  const words = joint.replace(/([a-z])([A-Z])/g, "$1 $2").toLowerCase().split(" ");
  const side = words.findIndex((word) => word === "left" || word === "right");
  return (side < 0 ? words : [words[side], ...words.filter((_, i) => i !== side)]).join(" ");
}

export const calm = matchMedia("(prefers-reduced-motion: reduce)");
