// How many false alarms an hour one accepts, and what that misses: seen before it is chosen.

import { button, h, number, percent, seconds } from "../dom.js";
import { Refusal } from "../link.js";

const WISHES = [0.2, 0.5, 1, 2, 3, 5, 8, 12, 20, 30, 50, 80, 120, 200];
const ORIGINS = { bundle: "the model's", hand: "set by hand", rates: "by false alarms", negatives: "by your movement" };
const POLL_MS = 300;
const NEGATIVE_S = 60;

export default {
  id: "thresholds",
  title: "Thresholds",
  mount(page, root) {
    let previews = [];
    let inForce = null;

    const slider = h("input", { type: "range", id: "wish", min: "0", max: String(WISHES.length - 1), step: "1", value: "5" });
    const value = h("output", { for: "wish" });
    const summary = h("p");
    const rows = h("tbody");
    const warnings = h("div", { class: "group" });
    const notes = h("div", { class: "log hint" });
    const use = button("Use it", calibrate, { class: "primary" });
    const reset = button("Back to the model's own", () => changed("threshold.reset", {}, "The model's own thresholds are used again."));
    const state = h("p", { class: "hint", role: "status", hidden: true });
    const negatives = h("p", { class: "hint" });
    const cannot = h("p", { class: "callout", hidden: true });
    const body = h("div", { class: "group" },
      h("div", { class: "wish" },
        h("label", { for: "wish" }, "False alarms an hour, all actions together"),
        value, slider,
        h("div", { class: "ends", "aria-hidden": "true" }, h("span", {}, "fewer alarms, more misses"), h("span", {}, "more alarms, fewer misses"))),
      summary,
      h("div", { class: "row" }, use, reset),
      state,
      warnings,
      h("table", { class: "table" },
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Action"), h("th", { scope: "col" }, "Misses now"), h("th", { scope: "col" }, "Would miss"), h("th", { scope: "col" }, "Distance"))),
        rows),
    );
    root.append(
      h("h2", {}, "How sure it must be"),
      h("p", { class: "hint" }, "A stricter threshold raises fewer false alarms and misses more. What it misses was measured on other people."),
      cannot, body, notes,
      h("h2", {}, "Your ordinary movement"), negatives,
      h("div", { class: "row" }, button("Record a minute", () => page.recordNegatives(NEGATIVE_S))),
    );
    slider.addEventListener("input", show);

    async function read() {
      if (root.hidden) return;
      try {
        [inForce, { wishes: previews }] = await Promise.all([
          page.link.ask("threshold.get"),
          page.link.ask("threshold.preview", { false_alarms_per_hour: WISHES }),
        ]);
      } catch (error) {
        if (!(error instanceof Refusal)) throw error;
        cannot.textContent = error.code === "no_rates" ? "This model has no rates of false alarms: its own threshold is used." : error.text;
        cannot.hidden = false;
        body.hidden = true;
        return;
      }
      body.hidden = false;
      cannot.hidden = true;
      const wish = inForce.false_alarms_per_hour;
      if (wish !== null && !slider.matches(":focus")) {
        slider.value = String(WISHES.reduce((best, other, i) => (Math.abs(Math.log(other / wish)) < Math.abs(Math.log(WISHES[best] / wish)) ? i : best), 0));
      }
      notes.replaceChildren(...inForce.notes.map((note) => h("p", {}, `${note[0].toUpperCase()}${note.slice(1)}.`)));
      reset.disabled = wish === null && inForce.labels.every(({ origin }) => origin === "bundle");
      const recorded = page.status?.gallery.negatives ?? 0;
      negatives.textContent = recorded
        ? `${recorded} piece${recorded === 1 ? "" : "s"} stored. They make a threshold stricter where an action alarms in them.`
        : "None yet. A minute in which you do none of the actions makes thresholds stricter where they must be.";
      show();
    }

    function show() {
      const wish = WISHES[Number(slider.value)];
      const preview = previews[Number(slider.value)];
      value.textContent = wish < 1 ? `${wish}` : String(wish);
      slider.setAttribute("aria-valuetext", `${wish} false alarms an hour`);
      if (!preview || !inForce) return;
      const labels = preview.labels;
      const now = new Map(inForce.labels.map((label) => [label.label, label]));
      const mean = labels.reduce((sum, { missed }) => sum + (missed ?? 0), 0) / Math.max(1, labels.length);
      summary.textContent = labels.length ? `It would miss about ${Math.round(100 * mean)} of 100 performances by others.` : "Nothing is enrolled yet.";
      rows.replaceChildren(...labels.map((label) => {
        const before = now.get(label.label);
        const origin = before ? ORIGINS[before.origin] ?? before.origin : "";
        const forget = before?.origin === "hand"
          ? button("Forget", () => changed("threshold.reset", { label: label.label }, `${label.label} is not set by hand any more.`), { class: "link" })
          : null;
        return h("tr", {},
          h("th", { scope: "row" }, label.label, h("small", {}, origin, forget)),
          h("td", {}, before?.missed == null ? "–" : percent(before.missed)),
          h("td", {}, h("b", {}, label.missed == null ? "–" : percent(label.missed))),
          h("td", { class: "tight" }, before && before.distance !== label.distance ? `${number(before.distance)} → ${number(label.distance)}` : number(label.distance)),
        );
      }));
      const warned = labels.filter(({ warning }) => warning);
      warnings.replaceChildren(...(warned.length ? [h("p", { class: "callout" }, `${warned.map(({ label }) => label).join(", ")}: ${warned[0].warning}.`)] : []));
      const isInForce = inForce.false_alarms_per_hour === wish;
      use.disabled = !labels.length || isInForce;
      use.textContent = isInForce ? "In use" : `Use ${value.textContent} an hour`;
    }

    async function calibrate() {
      const wish = WISHES[Number(slider.value)];
      let answer = await page.ask("threshold.calibrate", { false_alarms_per_hour: wish });
      const began = performance.now();
      while (answer?.state === "calibrating") {
        state.hidden = false;
        state.textContent = `Looking through your ordinary movement, ${seconds((performance.now() - began) / 1000)}`;
        await new Promise((done) => setTimeout(done, POLL_MS));
        answer = await page.ask("threshold.get");
      }
      state.hidden = true;
      if (!answer) return;
      if (answer.state) page.say(`The calibration ${answer.state}.`, { bad: true });
      else page.say(`At most ${wish} false alarms an hour, as far as the model knows.`, { undo });
      await read();
    }

    async function changed(cmd, args, text) {
      if (!(await page.ask(cmd, args))) return;
      page.say(text, cmd === "threshold.undo" ? {} : { undo });
      await read();
    }

    const undo = () => changed("threshold.undo", {}, "Taken back: the thresholds are as before.");

    page.addEventListener("gallery", read);
    return { shown: read };
  },
};
