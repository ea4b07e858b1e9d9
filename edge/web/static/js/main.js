// Puts the page together: the stage, the controls as tabs, keys, and what is said of daemon and server.

import { Countdown } from "./countdown.js";
import { button, h } from "./dom.js";
import { Link } from "./link.js";
import { Page } from "./page.js";
import { Stage } from "./stage.js";
import { Timeline } from "./timeline.js";
import actions from "./panes/actions.js";
import camera from "./panes/camera.js";
import enroll from "./panes/enroll.js";
import health from "./panes/health.js";
import live from "./panes/live.js";
import review from "./panes/review.js";
import thresholds from "./panes/thresholds.js";

// Each: {id, title, mount(page, root) -> {shown(), hidden()}}. A pane is mounted when it is first shown.
const PANES = [live, enroll, actions, thresholds, review, health, camera];

const link = new Link();
const page = new Page(link);
const stage = new Stage(link);
page.stage = stage;
page.countdown = new Countdown();
new Timeline(link);

// The controls.

const tabs = document.getElementById("tabs");
const root = document.getElementById("pane");
const mounted = new Map();
let current = null;

const tabOf = (id) => document.getElementById(`tab-${id}`);

PANES.forEach(({ id, title }, number) => {
  const tab = h(
    "button",
    { type: "button", role: "tab", id: `tab-${id}`, "aria-controls": `panel-${id}`, "aria-keyshortcuts": String(number + 1) },
    title,
  );
  tab.addEventListener("click", () => show(id));
  tabs.append(tab);
  root.append(h("section", { id: `panel-${id}`, role: "tabpanel", "aria-labelledby": `tab-${id}`, hidden: true }));
});

function show(id) {
  if (current === id) return;
  if (current) mounted.get(current).hidden?.();
  current = id;
  for (const pane of PANES) {
    const isShown = pane.id === id;
    const tab = tabOf(pane.id);
    tab.setAttribute("aria-selected", String(isShown));
    tab.tabIndex = isShown ? 0 : -1;
    document.getElementById(`panel-${pane.id}`).hidden = !isShown;
    if (isShown && !mounted.has(id)) mounted.set(id, pane.mount(page, document.getElementById(`panel-${id}`)) ?? {});
  }
  mounted.get(id).shown?.();
  tabOf(id).scrollIntoView({ block: "nearest", inline: "nearest" });
  history.replaceState(null, "", `#${id}`);
}
page.show = show;

tabs.addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  const ids = PANES.map(({ id }) => id);
  const to = { Home: 0, End: ids.length - 1 }[event.key] ?? (step && (ids.indexOf(current) + step + ids.length) % ids.length);
  if (to === undefined) return;
  event.preventDefault();
  show(ids[to]);
  tabOf(ids[to]).focus();
});

// Keys. Single letters can be turned off, for whoever speaks to the browser.

const KEYS_OFF = "crossglg.keys-off";
const KEYS = [
  ...PANES.map(({ id, title }, number) => [String(number + 1), title, () => (show(id), tabOf(id).focus())]),
  ["e", "Enroll an action", () => (show("enroll"), document.getElementById("enroll-label")?.focus())],
  ["u", "Undo the latest change of the gallery", () => page.undo()],
  ["?", "Show this list", () => openKeys()],
];
const keys = document.getElementById("keys");

function openKeys() {
  const off = h("input", { type: "checkbox", id: "keys-off", checked: localStorage.getItem(KEYS_OFF) === "1" });
  off.addEventListener("change", () => localStorage.setItem(KEYS_OFF, off.checked ? "1" : "0"));
  keys.replaceChildren(
    h("h2", { id: "keys-title" }, "Keys"),
    h("dl", {}, KEYS.map(([key, what]) => h("div", {}, h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)))),
    h("p", { class: "hint" }, "In Review: ", h("kbd", {}, "r"), " right, ", h("kbd", {}, "w"), " wrong, ", h("kbd", {}, "s"), " skip. ",
      "In Enroll: ", h("kbd", {}, "Esc"), " gives up. In the tabs: arrow keys."),
    h("label", { class: "check", for: "keys-off" }, off, "No single-letter keys but ?"),
    button("Close", () => keys.close(), { class: "primary" }),
  );
  keys.showModal();
}

document.getElementById("help").addEventListener("click", openKeys);
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input:not([type=checkbox]):not([type=radio]):not([type=range]), select, textarea");
  if (event.ctrlKey || event.metaKey || event.altKey || typing || keys.open || event.defaultPrevented) return;
  if (localStorage.getItem(KEYS_OFF) === "1" && event.key !== "?") return;
  const found = KEYS.find(([key]) => key === event.key) ?? mounted.get(current)?.keys?.find(([key]) => key === event.key);
  if (!found) return;
  event.preventDefault();
  found[2]();
});

const undo = document.getElementById("undo");
undo.addEventListener("click", () => page.undo());
undo.setAttribute("aria-keyshortcuts", "u");

// What is said of daemon and server.

const banner = document.getElementById("banner");
const line = document.querySelector(".health-line");
const text = document.getElementById("health-text");

function tell() {
  const { isConnected, server, status } = page;
  const trouble = troubleOf();
  if (banner.textContent !== trouble) banner.textContent = trouble;
  banner.hidden = !trouble;
  document.body.classList.toggle("gone", !page.isHeard);
  stage.say(page.isHeard ? noteOf(status) : isConnected && !server ? "Connecting" : "Nothing is seen without the daemon");
  const sources = Object.entries(status?.sources ?? {}).filter(([, source]) => source.age_s < 3);
  const isSlow = sources.some(([, source]) => source.slow);
  line.dataset.state = !page.isHeard ? (trouble ? "bad" : "wait") : isSlow || !sources.length ? "warn" : "good";
  text.textContent = !page.isHeard
    ? trouble ? "Not connected" : "Connecting"
    : sources.length
      ? sources.map(([name, source]) => `${name} ${source.fps.toFixed(0)} fps${source.slow ? ", slow" : ""}`).join(" · ")
      : "No frames arrive";
  undo.disabled = !page.isHeard || !page.revision;
}

function troubleOf() {
  if (!page.isConnected) return page.server ? "The page's server is gone. Trying to reach it again." : "";
  if (!page.server) return "";
  const { is_heard: isHeard, silent_s: silentS, version, unreadable } = page.server;
  if (!isHeard && silentS === null) return page.isLate ? "No daemon answers. Start one with: crossglg-edge serve" : "";
  if (!isHeard) return "The daemon has stopped. The page goes on when it is back.";
  if (page.status && page.status.version !== version) {
    return `The daemon is version ${page.status.version}, this page ${version}. Some things may not work: restart the older one.`;
  }
  return unreadable ? "The daemon sends messages that this page cannot read. Use the same version at both ends." : "";
}

function noteOf(status) {
  if (!status) return "";
  const sources = Object.values(status.sources);
  const camera = status.camera_process;
  if (camera?.last_error && camera.state !== "runs") return `The camera ${camera.kind} does not run: ${camera.last_error}`;
  if (!sources.length) return "No camera has sent a frame yet";
  return sources.every(({ age_s: age }) => age > 3) ? "No frames arrive" : "Nobody is in view";
}

page.addEventListener("reach", tell);
page.addEventListener("status", tell);
setTimeout(() => ((page.isLate = true), tell()), 4000);

// Events, as they begin.

const now = document.getElementById("now");
const going = new Map();

link.addEventListener("event", ({ detail: event }) => {
  if (link.now - event.heard_at > 5) return;
  const who = `${event.source} ${event.body}`;
  if (event.type === "end") going.delete(who);
  else going.set(who, event);
  if (event.type === "onset") page.announce(`${event.label}, score ${event.score.toFixed(2)}`);
  const lines = [...going.values()].map(({ label, score, count }) =>
    h("p", {}, h("strong", {}, label), count > 1 ? h("span", {}, `× ${count}`) : null, h("span", {}, score.toFixed(2))),
  );
  now.replaceChildren(...lines);
});
link.addEventListener("disconnected", () => (going.clear(), now.replaceChildren()));

// Its list of events begins with the first one.
mounted.set("live", live.mount(page, document.getElementById("panel-live")));
const asked = location.hash.slice(1);
show(PANES.some(({ id }) => id === asked) ? asked : "live");
tell();
link.start();
