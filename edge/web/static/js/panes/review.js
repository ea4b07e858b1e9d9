// What was told, and what nearly was: one movement at a time, with three answers. Each makes the next better.

import { button, h, number, seconds } from "../dom.js";
import { movementFrom } from "../kinect.js";
import { Player } from "../player.js";

const LIMIT = 100;

function why({ why: reason, label, score, distance, threshold_distance: threshold, nearer }) {
  switch (reason) {
    case "told": return `It was told as ${label}, with score ${number(score)}.`;
    case "threshold": return `It was nearly told as ${label}: too far by ${number(distance - threshold)}.`;
    case "nearer": return `It was near to ${label}, but ${nearer || "another action"} was nearer.`;
    case "few": return `It was near to ${label}, but in too few decisions.`;
    case "overlap": return `It was near to ${label}, but most of it was told before.`;
    default: return `It was near to ${label}, and held back by the rules of events.`;
  }
}

export default {
  id: "review",
  title: "Review",
  mount(page, root) {
    let clips = [];
    let skipped = new Set();
    let loadedKept = -1;
    let current = null;
    let player = null;

    const title = h("h2", { tabIndex: -1 });
    const text = h("p", { class: "hint" });
    const place = h("div");
    const what = h("select", { "aria-label": "Which action it is" });
    const right = button("", () => answer("right"), { "aria-keyshortcuts": "r" });
    const wrong = button("", () => answer("wrong"), { "aria-keyshortcuts": "w" });
    const is = button("It is", () => answer("is", what.value));
    const other = h("div", { class: "row" }, is, what);
    const skip = button("", () => next(), { class: "quiet", "aria-keyshortcuts": "s" });
    right.append("Right ", h("kbd", {}, "r"));
    wrong.append("Wrong ", h("kbd", {}, "w"));
    skip.append("Skip ", h("kbd", {}, "s"));
    const back = button("Take the last answer back", () => undo("last"), { class: "quiet" });
    const answers = h("div", { class: "group" }, h("div", { class: "answers" }, right, wrong), other, h("div", { class: "row" }, skip, back));
    const none = h("p", { class: "hint" });
    root.append(title, text, place, answers, none);

    async function read() {
      if (root.hidden) return;
      const list = await page.ask("review.list", { useful: true, limit: LIMIT });
      if (!list) return;
      loadedKept = page.status?.review?.kept ?? 0;
      clips = list.clips.filter(({ id }) => !skipped.has(id));
      show();
    }

    async function show() {
      const clip = clips[0] ?? null;
      const same = clip && current && clip.id === current.id;
      current = clip;
      for (const part of [place, answers, text]) part.hidden = !clip && part !== answers;
      right.hidden = wrong.hidden = skip.hidden = !clip;
      none.hidden = Boolean(clip);
      const others = page.labels.filter((label) => label !== clip?.label);
      other.hidden = !clip || !others.length;
      if (!clip) {
        title.textContent = "Nothing to review";
        const state = page.status?.review?.state;
        none.textContent = state === "off" ? "Review is turned off in the configuration." : state || "Do an enrolled action. What was told, and what nearly was, comes here.";
        return;
      }
      title.textContent = `Is this ${clip.label}?`;
      text.textContent = `${why(clip)} ${seconds(clip.duration_s)} at ${new Date(clip.created).toLocaleTimeString([], { hour12: false })}, body ${clip.body} of ${clip.source}. ${clips.length === 1 ? "The last one." : `${clips.length} wait.`}`;
      if (what.dataset.labels !== others.join("\n")) {
        what.dataset.labels = others.join("\n");
        what.replaceChildren(...others.map((label) => h("option", { value: label }, label)));
      }
      if (clip.nearer && others.includes(clip.nearer)) what.value = clip.nearer;
      if (same) return;
      const movement = await page.ask("review.movement", { id: clip.id });
      if (current !== clip) return;
      player?.pause();
      player = null;
      if (!movement) return place.replaceChildren();
      player = new Player();
      place.replaceChildren(player.element);
      player.show(movementFrom(movement));
    }

    function next() {
      if (!current) return;
      skipped.add(current.id);
      clips.shift();
      show();
      page.announce(title.textContent);
    }

    async function answer(verdict, label) {
      if (!current) return;
      const clip = current;
      const told = await page.ask("review.answer", { id: clip.id, answer: verdict, ...(label ? { label } : {}) });
      if (!told) return;
      clips = clips.filter(({ id }) => id !== clip.id);
      const effect = verdict === "wrong" ? "a counter-example" : "one more example";
      page.say(`It ${told.answer}: ${effect} is stored.`);
      await page.refresh();
      show();
      page.announce(title.textContent);
    }

    async function undo(id) {
      const told = await page.ask("review.undo", { id });
      if (!told) return;
      page.say(`Taken back: it ${told.answer}.`);
      await page.refresh();
      await read();
    }

    page.addEventListener("status", () => {
      const kept = page.status.review?.kept ?? 0;
      if (!root.hidden && kept !== loadedKept && !current) read();
    });
    page.addEventListener("gallery", () => root.hidden || read());
    return {
      shown: () => ((skipped = new Set()), read()),
      hidden: () => player?.pause(),
      keys: [["r", "Right", () => right.click()], ["w", "Wrong", () => wrong.click()], ["s", "Skip", () => skip.click()]],
    };
  },
};
