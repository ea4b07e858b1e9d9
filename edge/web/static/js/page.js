// What all parts of the page share: the link, how the daemon is, what is said to the person.

import { Refusal } from "./link.js";
import { button } from "./dom.js";

const TOAST_MS = 7000;

// Dispatches: "status" (how the daemon is now), "gallery" (what is enrolled has changed, or another daemon runs),
// "reach" (whether daemon and server are there).
export class Page extends EventTarget {
  status = null;
  server = null;
  isConnected = false;
  #toast = document.getElementById("toast");
  #timer = 0;

  constructor(link) {
    super();
    this.link = link;
    link.addEventListener("status", ({ detail }) => this.#takeStatus(detail));
    link.addEventListener("page", ({ detail }) => {
      this.server = detail;
      this.dispatchEvent(new Event("reach"));
    });
    for (const [name, is] of [["connected", true], ["disconnected", false]]) {
      link.addEventListener(name, () => {
        this.isConnected = is;
        this.dispatchEvent(new Event("reach"));
      });
    }
  }

  get labels() {
    return this.status?.gallery.labels ?? [];
  }

  get revision() {
    return this.status?.gallery.revision ?? 0;
  }

  get isHeard() {
    return this.isConnected && Boolean(this.server?.is_heard);
  }

  #takeStatus(status) {
    const before = this.status;
    this.status = status;
    this.dispatchEvent(new Event("status"));
    const same = before && before.pid === status.pid && before.gallery.revision === status.gallery.revision;
    if (!same) this.dispatchEvent(new Event("gallery"));
  }

  // Asks for the status at once, so that a change is seen before the next second.
  async refresh() {
    try {
      this.#takeStatus(await this.link.ask("status"));
    } catch (error) {
      this.refused(error);
    }
  }

  // Asks the daemon; a refusal is told, and null returned.
  async ask(cmd, args = {}) {
    try {
      return await this.link.ask(cmd, args);
    } catch (error) {
      this.refused(error);
      return null;
    }
  }

  refused(error) {
    if (!(error instanceof Refusal)) throw error;
    this.say(error.text, { bad: true });
  }

  // Says something for some seconds; `undo`: with a button that does what takes the change back.
  say(text, { bad = false, undo = null } = {}) {
    clearTimeout(this.#timer);
    const parts = [text];
    if (undo) parts.push(button("Undo", undo, { class: "link" }));
    this.#toast.replaceChildren(...parts);
    this.#toast.classList.toggle("bad", bad);
    this.#toast.classList.add("shown");
    this.#timer = setTimeout(() => this.#toast.classList.remove("shown"), TOAST_MS);
  }

  announce(text) {
    document.getElementById("announce").textContent = text;
  }

  alert(text) {
    document.getElementById("alert").textContent = text;
  }

  async undo() {
    const undone = await this.ask("gallery.undo", { expected_revision: this.revision });
    if (!undone) return;
    this.say(`Taken back: ${undone.undone}.`);
    await this.refresh();
  }
}
