// What is enrolled: examples to play, rename and remove; what is confused with what; the history, which can be undone.

import { button, field, h, jointWords, number, seconds } from "../dom.js";
import { movementFrom } from "../kinect.js";
import { playButton } from "../player.js";

const HISTORY = 12;

export default {
  id: "actions",
  title: "Actions",
  mount(page, root) {
    const list = h("ul", { class: "cards" });
    const none = h("p", { class: "hint" });
    const history = h("ol", { class: "log" });
    const past = h("details", {}, h("summary", {}, "History"), history);
    past.addEventListener("toggle", () => past.open && readHistory());
    root.append(
      h("div", { class: "head" }, h("h2", {}, "Enrolled actions"), button("Enroll another", () => page.enrollAgain(""), { class: "small" })),
      none, list, past,
    );
    const open = new Set();
    const cards = new Map();
    let shownRevision = -1;

    async function read() {
      if (root.hidden || shownRevision === page.revision) return;
      const answer = await page.ask("gallery.list");
      if (!answer) return;
      shownRevision = answer.gallery_revision;
      none.textContent = answer.labels.length ? "" : "Nothing is enrolled yet.";
      none.hidden = answer.labels.length > 0;
      show(answer.labels);
      if (past.open) readHistory();
    }

    // A card that still says the same stays where it is: somebody may look at it, or type into it.
    function show(labels) {
      const before = new Map(cards);
      cards.clear();
      labels.forEach((about, position) => {
        const said = JSON.stringify(about);
        const kept = before.get(about.label);
        const item = kept?.said === said ? kept.item : card(about);
        cards.set(about.label, { said, item });
        if (list.children[position] !== item) list.insertBefore(item, list.children[position] ?? null);
      });
      while (list.children.length > labels.length) list.lastElementChild.remove();
    }

    function card({ label, examples, by_words: byWords }) {
      const count = byWords ? "by words alone" : `${examples.length} example${examples.length === 1 ? "" : "s"}`;
      const body = h("div", { class: "examples" });
      const details = h("details", {}, h("summary", {}, count), body);
      details.addEventListener("toggle", () => {
        if (details.open) open.add(label);
        else open.delete(label);
        if (details.open && !body.childElementCount) fill(label, body);
      });
      details.open = open.has(label);
      return h("li", {}, h("h3", {}, label), details);
    }

    async function fill(label, body) {
      const about = await page.ask("gallery.get", { label });
      if (!about) return;
      const items = [
        ...about.examples.map((example) => exampleItem(example, example.moved)),
        ...(about.counters ?? []).map((counter) => exampleItem(counter, [], "not this action")),
      ];
      const confused = about.confused_with.length
        ? h("p", { class: "callout" }, `It will be confused with ${about.confused_with.join(", ")}.`)
        : about.nearest.length
          ? h("p", { class: "hint" }, `Nearest to it is ${about.nearest[0].label}, at distance ${number(about.nearest[0].distance)}.`)
          : null;
      body.replaceChildren(
        ...[confused, h("ul", { class: "examples" }, items), h("div", { class: "row" },
          button("Add an example", () => page.enrollAgain(label), { class: "small" }),
          button("Rename", () => rename(label, body), { class: "small" }),
          button(`Remove ${label}`, () => change("gallery.remove", { label }, `${label} is removed.`), { class: "small danger" }))].filter(Boolean),
      );
    }

    function exampleItem(example, moved, kind = "") {
      const item = h("li");
      const words = [kind, seconds(example.duration_s), example.origin, moved.slice(0, 2).map(jointWords).join(", ")];
      const play = playButton(item, async () => {
        const answer = await page.ask("gallery.movement", { id: example.id });
        return answer && movementFrom(answer);
      }, moved);
      item.append(
        h("span", { class: "hint" }, words.filter(Boolean).join(" · ")),
        play,
        button("Remove", () => change("gallery.remove", { id: example.id }, "The example is removed."), { class: "small" }),
      );
      return item;
    }

    function rename(label, body) {
      const name = h("input", { type: "text", value: label, maxlength: "100", autocomplete: "off" });
      const form = h("form", { class: "row" }, field(`Rename ${label} to`, name), h("button", { type: "submit", class: "small primary" }, "Rename"));
      form.addEventListener("submit", async (event) => {
        event.preventDefault();
        if (open.delete(label)) open.add(name.value.trim());
        await change("gallery.rename", { old: label, new: name.value.trim() }, `${label} is now ${name.value.trim()}.`);
      });
      body.append(form);
      name.select();
    }

    async function change(cmd, args, text) {
      if (!(await page.ask(cmd, { ...args, expected_revision: page.revision }))) return;
      page.say(text, { undo: () => page.undo() });
      await page.refresh();
    }

    async function readHistory() {
      const answer = await page.ask("gallery.history", { limit: HISTORY });
      if (!answer) return;
      history.replaceChildren(...answer.history.map(({ created, action, label, detail }) =>
        h("li", {}, h("span", { class: "hint" }, `${new Date(created).toLocaleString([], { dateStyle: "short", timeStyle: "short" })} `), `${action} ${label} ${detail}`)));
    }

    page.addEventListener("gallery", () => ((shownRevision = -1), read()));
    return { shown: read };
  },
};
