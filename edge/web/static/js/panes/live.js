// How near each action is now, with its threshold and what stops it; and the events so far, as text.

import { clock, h, number, seconds } from "../dom.js";

const GATES = {
  "": "goes on",
  still: "rests",
  not_compared: "not compared",
  threshold: "too far",
  nearer: "another is nearer",
  rules: "not yet",
};
const MAX_EVENTS = 60;
const OLD_MS = 1500;

export default {
  id: "live",
  title: "Live",
  mount(page, root) {
    const scores = h("ul", { class: "scores" });
    const who = h("select", { id: "who", class: "who", hidden: true, "aria-label": "Whose scores" });
    const events = h("ol", { class: "events" });
    const none = h("p", { class: "hint" }, "No event yet.");
    const hint = h("p", { class: "hint" });
    root.append(
      h("div", { class: "head" }, h("h2", {}, "How near"), who),
      hint,
      scores,
      h("div", { class: "head" }, h("h2", {}, "Events")),
      none,
      events,
    );
    const rows = new Map();
    const newest = new Map();
    let minScore = 0.5;

    async function readConfig() {
      try {
        minScore = (await page.link.ask("config.get")).events.min_score;
        for (const row of rows.values()) row.mark.style.setProperty("--at", minScore);
      } catch {
        // An older daemon, or none: half is the default.
      }
    }

    function rowOf(label) {
      let row = rows.get(label);
      if (!row) {
        const [bar, mark, value, gate] = [h("i", { class: "bar" }), h("i", { class: "mark" }), h("b"), h("span", { class: "gate" })];
        mark.style.setProperty("--at", minScore);
        const item = h("li", {}, h("span", { class: "label" }, label), gate, h("span", { class: "meter", "aria-hidden": "true" }, bar, mark), value);
        row = { item, bar, mark, value, gate };
        rows.set(label, row);
      }
      return row;
    }

    function layOut() {
      for (const label of [...rows.keys()]) if (!page.labels.includes(label)) rows.delete(label);
      scores.replaceChildren(...page.labels.map((label) => rowOf(label).item));
      hint.textContent = page.labels.length ? "" : "Nothing is enrolled yet. Show an action once in Enroll.";
      hint.hidden = page.labels.length > 0;
    }

    function draw() {
      const now = performance.now();
      for (const [body, { at }] of newest) if (now - at > OLD_MS) newest.delete(body);
      const bodies = page.labels.length ? [...newest.keys()] : [];
      if (who.hidden !== bodies.length < 2 || who.options.length !== bodies.length) {
        const before = who.value;
        who.replaceChildren(...bodies.map((body) => h("option", { value: body }, body)));
        if (bodies.includes(before)) who.value = before;
        who.hidden = bodies.length < 2;
      }
      const found = new Map((newest.get(who.value) ?? newest.get(bodies[0]))?.labels.map((score) => [score.label, score]));
      for (const [label, { item, bar, value, gate }] of rows) {
        const score = found.get(label);
        item.dataset.gate = score ? score.gate || "on" : "none";
        bar.style.setProperty("--to", score?.score ?? 0);
        value.textContent = score ? number(score.score) : "–";
        gate.textContent = score ? GATES[score.gate] ?? score.gate : "";
        item.title = score?.distance == null ? "" : `distance ${number(score.distance)}, threshold ${number(score.threshold_distance)}`;
      }
    }

    const items = new Map();
    page.link.addEventListener("scores", ({ detail }) => {
      newest.set(`body ${detail.body} of ${detail.source}`, { at: performance.now(), labels: detail.labels });
    });
    page.link.addEventListener("event", ({ detail: event }) => {
      none.hidden = true;
      const parts = [
        h("time", {}, clock(event.heard_at)),
        h("span", { class: "label" }, event.label),
        h("span", { class: "what" }, event.type === "end" ? seconds(event.t_end - event.t_start) : "goes on"),
        event.count > 1 ? h("span", { class: "times" }, `× ${event.count}`) : null,
        h("b", {}, number(event.score)),
      ].filter(Boolean);
      let item = items.get(event.id);
      if (!item) {
        item = h("li");
        items.set(event.id, item);
        events.prepend(item);
        while (events.children.length > MAX_EVENTS) events.lastChild.remove();
      } else parts[0] = item.firstChild;
      item.dataset.type = event.type;
      item.replaceChildren(...parts);
    });
    page.addEventListener("gallery", () => (layOut(), readConfig()));
    layOut();
    readConfig();
    setInterval(() => root.hidden || document.hidden || draw(), 120);
    return {};
  },
};
