// The way to the page's server: a WebSocket for what is live, a request for everything else. Comes back by itself.

const FIRST_WAIT_MS = 300;
const LONGEST_WAIT_MS = 4000;
// The server says twice a second how the daemon is.
const SILENT_MS = 6000;

export class Refusal extends Error {
  constructor({ code, message, hint }) {
    super(message);
    this.code = code;
    this.hint = hint;
  }

  // What a person reads. A daemon that is older than the page lacks some commands.
  get text() {
    if (this.code === "unknown_command") return "This daemon is older than the page and cannot do that. Restart it.";
    return `${this.message[0].toUpperCase()}${this.message.slice(1)}.`;
  }
}

// Dispatches: "connected", "disconnected", and each topic's first word ("event", "skeleton", "status", ...), whose
// detail is the message; "topic" beside it.
export class Link extends EventTarget {
  #socket = null;
  #waitMs = FIRST_WAIT_MS;
  #timer = 0;
  #heard = 0;
  #aheadS = 0;

  constructor() {
    super();
    document.addEventListener("visibilitychange", () => {
      this.#tellVisible();
      if (!document.hidden && !this.#socket) this.#connect();
    });
    addEventListener("online", () => this.#socket || this.#connect());
    setInterval(() => {
      const silent = performance.now() - this.#heard > SILENT_MS;
      if (!document.hidden && silent && this.#socket?.readyState === WebSocket.OPEN) this.#lost();
    }, 1000);
  }

  // The server's time: a phone's own clock may be minutes away from it.
  get now() {
    return Date.now() / 1000 - this.#aheadS;
  }

  start() {
    this.#connect();
  }

  // Returns the result, or throws a Refusal.
  async ask(cmd, args = {}) {
    let answer;
    try {
      const response = await fetch("/ask", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ cmd, args }),
      });
      answer = await response.json();
    } catch {
      throw new Refusal({ code: "page_gone", message: "the page's server does not answer", hint: "" });
    }
    if (!answer.ok) throw new Refusal(answer.error);
    return answer.result;
  }

  #connect() {
    clearTimeout(this.#timer);
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/live`);
    this.#socket = socket;
    socket.addEventListener("open", () => {
      this.#waitMs = FIRST_WAIT_MS;
      this.#heard = performance.now();
      this.#tellVisible();
      this.dispatchEvent(new CustomEvent("connected"));
    });
    socket.addEventListener("message", ({ data }) => {
      this.#heard = performance.now();
      const { topic, message } = JSON.parse(data);
      if (topic === "page") this.#aheadS = Date.now() / 1000 - message.now;
      const event = new CustomEvent(topic.split(".", 1)[0], { detail: message });
      event.topic = topic;
      this.dispatchEvent(event);
    });
    socket.addEventListener("close", () => socket === this.#socket && this.#lost());
  }

  #lost() {
    const socket = this.#socket;
    this.#socket = null;
    socket.close();
    this.dispatchEvent(new CustomEvent("disconnected"));
    this.#timer = setTimeout(() => this.#connect(), this.#waitMs);
    this.#waitMs = Math.min(2 * this.#waitMs, LONGEST_WAIT_MS);
  }

  #tellVisible() {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify({ visible: !document.hidden }));
    this.#heard = performance.now();
  }
}
