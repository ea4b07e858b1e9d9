// One example, live: what is enrolled, stand still, countdown, move, look at it, keep it.

import { button, field, h, jointWords, number, percent, seconds } from "../dom.js";
import { movementFrom } from "../kinect.js";
import { Refusal } from "../link.js";
import { Player } from "../player.js";

const STEPS = [["stillness", "Stand still"], ["countdown", "Get ready"], ["capture", "Move"], ["captured", "Look"]];
const OFTEN_MS = 120;
const SELDOM_MS = 700;
const UNDER_WAY = ["stillness", "countdown", "capture"];

export default {
  id: "enroll",
  title: "Enroll",
  mount(page, root) {
    // The enrollment that this page shows: {id, mine, state}; null while it shows the form.
    let session = null;
    let timer = 0;
    let player = null;

    // The form.

    const label = h("input", { type: "text", id: "enroll-label", required: true, maxlength: "100", autocomplete: "off", spellcheck: "false", list: "enroll-labels", placeholder: "such as wave" });
    const known = h("datalist", { id: "enroll-labels" });
    const mode = h("select", {}, h("option", { value: "add" }, "one more example of it"), h("option", { value: "replace" }, "in place of its examples"));
    const modeField = field("It is enrolled already. Store it as", mode);
    const side = h("select", {}, ["as shown", "left", "right", "either"].map((name, i) => h("option", { value: i ? name : "" }, name)));
    const wait = h("select", {}, [["", "as configured"], ["3", "3 s"], ["5", "5 s"], ["10", "10 s"]].map(([value, name]) => h("option", { value }, name)));
    const who = h("select", {}, h("option", { value: "" }, "the only person in view"));
    const description = h("input", { type: "text", maxlength: "500", autocomplete: "off" });
    const sound = h("input", { type: "checkbox", id: "enroll-sound", checked: !page.countdown.isMuted });
    sound.addEventListener("change", () => (page.countdown.isMuted = !sound.checked));
    const busy = h("p", { class: "callout", hidden: true });
    const begin = h("button", { type: "submit", class: "primary" }, "Start");
    const form = h("form", { class: "pane-form", novalidate: true },
      h("h2", {}, "Show an action once"),
      h("p", { class: "hint" }, "Stand still, wait for the countdown, do it once at your normal speed, and rest."),
      busy,
      field("Action", label, "Say in English what the body does, if you can: the words may count too."),
      known,
      modeField,
      h("details", {}, h("summary", {}, "More"),
        h("div", { class: "group" },
          field("Who", who), field("Side", side, "Either: stored as shown and mirrored."),
          field("Countdown", wait), field("Description", description))),
      h("label", { class: "check", for: "enroll-sound" }, sound, "A tone each second"),
      h("div", { class: "row" }, begin),
    );
    form.addEventListener("submit", (event) => (event.preventDefault(), start()));
    label.addEventListener("input", () => fitForm());
    who.addEventListener("focus", () => listPeople());

    function fitForm() {
      const same = page.labels.find((other) => other.toLowerCase() === label.value.trim().toLowerCase());
      modeField.hidden = !same;
      known.replaceChildren(...page.labels.map((value) => h("option", { value })));
    }

    function listPeople() {
      const before = who.value;
      const found = page.stage.bodies.map(({ source, id }) => h("option", { value: JSON.stringify([source, id]) }, `body ${id} of ${source}`));
      who.replaceChildren(h("option", { value: "" }, "the only person in view"), ...found);
      if ([...who.options].some(({ value }) => value === before)) who.value = before;
    }

    async function start() {
      if (begin.getAttribute("aria-disabled") === "true") return;
      const wanted = label.value.trim();
      if (!wanted) {
        page.say("Say first which action it is.", { bad: true });
        label.focus();
        return;
      }
      const [source, body] = who.value ? JSON.parse(who.value) : [null, null];
      const args = { label: wanted, commit: false, mode: modeField.hidden ? "new" : mode.value, source, body };
      if (side.value) args.side = side.value;
      if (wait.value) args.countdown_s = Number(wait.value);
      if (description.value.trim()) args.description = description.value.trim();
      await begun(args);
    }

    async function begun(args) {
      page.countdown.ready();
      begin.setAttribute("aria-disabled", "true");
      const told = await page.ask("enroll.start", args);
      begin.removeAttribute("aria-disabled");
      if (!told) return;
      session = { id: told.id, mine: true, state: "", shown: "", isMovement: Boolean(args.negative_s) };
      follow();
    }

    // Ordinary movement is captured in the same way; the pane of thresholds asks for it.
    page.recordNegatives = async (s) => {
      page.show("enroll");
      await begun({ negative_s: s });
    };

    // What is under way.

    const ofThis = () => (session?.id ? { id: session.id } : {});

    async function follow() {
      clearTimeout(timer);
      if (!session) return;
      let status;
      try {
        status = await page.link.ask("enroll.status");
      } catch (error) {
        if (!(error instanceof Refusal)) throw error;
        // It may be back in a moment; an enrollment does not outlive its daemon.
        timer = setTimeout(follow, SELDOM_MS);
        return;
      }
      if (!session) return;
      if (session.id && status.id && status.id !== session.id) return leave("Another enrollment has begun since, on another page or at a terminal.");
      session.id ??= status.id;
      take(status);
      if (session) timer = setTimeout(follow, UNDER_WAY.includes(status.state) ? OFTEN_MS : SELDOM_MS);
    }

    function take(status) {
      if (status.state === "none") return leave("The daemon was restarted. Nothing was stored.");
      if (status.state === "done") return finished(status);
      if (status.state === "failed") return failed(status);
      if (UNDER_WAY.includes(status.state)) {
        if (session.shown !== "steps") showSteps(status.label);
        const changed = session.state !== status.state;
        session.state = status.state;
        advance(status, changed);
      } else {
        page.countdown.show("");
        session.state = "captured";
        if (session.shown !== "preview") showPreview(status);
        else left.textContent = waits(status.left_s);
      }
    }

    const giveUp = () => button("Give up", cancel, { "aria-keyshortcuts": "Escape" });
    const list = h("ol", { class: "steps" }, STEPS.map(([id, name]) => h("li", { "data-step": id }, name)));
    const say = h("p", { class: "big" });
    const more = h("p", { class: "hint" });

    function markStep(state) {
      const index = STEPS.findIndex(([id]) => id === state);
      [...list.children].forEach((item, i) => {
        item.classList.toggle("done", i < index);
        if (i === index) item.setAttribute("aria-current", "step");
        else item.removeAttribute("aria-current");
      });
    }

    function showSteps(name) {
      session.shown = "steps";
      const stop = giveUp();
      root.replaceChildren(h("h2", {}, `Enrolling ${name}`), list, say, more, h("div", { class: "row" }, stop));
      if (!session.mine) more.textContent = "It was begun on another page or at a terminal.";
      stop.focus();
    }

    function advance({ state, left_s: leftS, message, label: name }, changed) {
      markStep(state);
      if (state === "stillness") {
        say.textContent = message ? `Stand still: ${message}` : "Stand still";
        page.countdown.show("Stand still");
      } else if (state === "countdown") {
        const left = String(Math.max(1, Math.ceil(leftS)));
        say.textContent = `Get ready: ${left}`;
        if (page.countdown.show(left)) page.alert(left);
      } else {
        say.textContent = session.isMovement ? "Move as always" : "Move now, then rest";
        if (changed) {
          page.countdown.show("Now", { high: true });
          page.alert(`${name}, now`);
          setTimeout(() => session?.state === "capture" && page.countdown.show(""), 900);
        }
        more.textContent = `${seconds(leftS)} left at most`;
      }
      if (state === "stillness" && changed) page.alert("Stand still");
    }

    // What was captured.

    const left = h("p", { class: "hint" });
    const waits = (s) => `It waits for ${Math.round(s)} s more.`;
    const about = h("div", { class: "group" });
    // The part that the daemon has taken, seconds.
    let kept = [0, 0];

    async function showPreview(status) {
      session.shown = "preview";
      session.label = status.label;
      markStep("captured");
      player = new Player({ trim });
      const keep = button("Keep it", () => commit(false), { class: "primary" });
      const again = button("Show it again", showAgain);
      left.textContent = waits(status.left_s);
      root.replaceChildren(
        h("h2", {}, `Is this ${status.label}?`), list, player.element,
        h("div", { class: "row" }, keep, again, button("Discard", cancel, { "aria-keyshortcuts": "Escape" })),
        left, about,
      );
      tell(status.preview);
      keep.focus();
      page.announce(`Captured ${seconds(status.preview.duration_s)}. Keep it, or show it again.`);
      try {
        const movement = movementFrom(await page.link.ask("enroll.movement", ofThis()));
        if (!player) return;
        kept = [movement.startS, movement.endS];
        player.show(movement, status.preview.moved.map(({ joint }) => joint));
      } catch (error) {
        if (!(error instanceof Refusal)) throw error;
        player.element.replaceChildren(h("p", { class: "callout" }, error.text));
      }
    }

    function tell(preview) {
      const most = Math.max(...preview.moved.map(({ path_m: path }) => path), 0.01);
      about.replaceChildren(
        ...[
          preview.similar && h("p", { class: "callout" }, `It is similar to ${preview.similar.label}: distance ${number(preview.similar.distance)}. The two may be confused.`),
          ...preview.notes.map((note) => h("p", { class: "callout" }, `${note[0].toUpperCase()}${note.slice(1)}.`)),
          h("dl", { class: "facts" },
            h("dt", {}, "Length"), h("dd", {}, `${seconds(preview.duration_s)}, ${preview.frames} frames at ${number(preview.fps, 0)} a second`),
            h("dt", {}, "Joints seen"), h("dd", {}, percent(preview.joints)),
            preview.words && preview.words !== "off" ? [h("dt", {}, "Its words"), h("dd", {}, preview.words === "mixed" ? "count too" : "do not agree with it, and do not count")] : [],
          ),
          h("div", {}, h("h3", {}, "What moved"),
            h("ul", { class: "paths" }, preview.moved.map(({ joint, path_m: path }) => {
              const bar = h("i");
              bar.style.setProperty("--to", path / most);
              return h("li", {}, jointWords(joint), h("span", { "aria-hidden": "true" }, bar), h("b", {}, `${number(path, 1)} m`));
            }))),
        ].filter(Boolean),
      );
    }

    // One after the other, and of several wishes the newest: a key that is held down sends many.
    let wish = null;
    let trimming = null;

    function trim(startS, endS) {
      wish = [startS, endS];
      trimming ??= carryOut().finally(() => (trimming = null));
    }

    async function carryOut() {
      while (wish && session) {
        const [startS, endS] = wish;
        wish = null;
        const preview = await page.ask("enroll.trim", { start_s: startS, end_s: endS, ...ofThis() });
        if (!session || !player) return;
        if (!preview) {
          if (!wish) player.restore(kept);
          continue;
        }
        kept = [startS, endS];
        tell(preview);
        player.mark(preview.moved.map(({ joint }) => joint));
        page.announce(`${seconds(preview.duration_s)} are kept`);
      }
    }

    async function commit(force) {
      await trimming;
      if (!session) return;
      try {
        const stored = await page.link.ask("enroll.commit", { force, ...ofThis() });
        finished({ label: stored.label, result: stored });
      } catch (error) {
        if (error.code !== "too_similar") return page.refused(error);
        const anyway = button("Keep it all the same", () => commit(true), { class: "primary" });
        about.prepend(h("p", { class: "callout bad" }, error.text), h("div", { class: "row" }, anyway));
        page.alert(error.text);
        anyway.focus();
      }
    }

    async function showAgain() {
      const again = session.label;
      if (!(await page.ask("enroll.cancel", ofThis()))) return;
      toForm();
      label.value = again;
      fitForm();
      await start();
    }

    async function cancel() {
      if (!session) return;
      const told = await page.ask("enroll.cancel", ofThis());
      if (!told) return;
      toForm();
      begin.focus({ preventScroll: true });
      page.refresh();
    }

    // How it ended.

    function finished({ label: name, result }) {
      const isMovement = "pieces" in result;
      const text = isMovement ? `${seconds(result.duration_s)} of ordinary movement are stored.` : `${name} is enrolled. Do it again, and see it in Live.`;
      toForm();
      label.value = "";
      fitForm();
      page.say(text, { undo: () => page.undo() });
      page.refresh();
      if (isMovement) page.show("thresholds");
      // Not the field: on a phone its keyboard would hide what comes next.
      else begin.focus({ preventScroll: true });
    }

    function failed({ label: name, error }) {
      const refusal = new Refusal(error);
      const mine = session.mine;
      toForm();
      if (error.code === "cancelled" && !mine) return;
      busy.textContent = `${refusal.text} ${error.hint ?? ""}`;
      busy.className = "callout bad";
      busy.hidden = false;
      page.alert(refusal.text);
      if (!label.value && name !== "ordinary movement") label.value = name;
      fitForm();
      begin.focus({ preventScroll: true });
    }

    function leave(text) {
      toForm();
      page.say(text, { bad: true });
    }

    function toForm() {
      clearTimeout(timer);
      page.countdown.show("");
      session = null;
      player?.pause();
      player = null;
      busy.hidden = true;
      more.textContent = "";
      root.replaceChildren(form);
      fitForm();
    }

    // Somebody enrolls on another page.

    function tellBusy() {
      const other = page.status?.enrolling;
      const isOther = Boolean(other) && !session;
      if (!isOther) {
        if (busy.dataset.other) {
          busy.hidden = true;
          delete busy.dataset.other;
        }
        return;
      }
      if (busy.dataset.other === other) return;
      busy.dataset.other = other;
      busy.className = "callout";
      busy.replaceChildren(`An enrollment of ${other} is under way on another page or at a terminal. `, button("Show it", adopt, { class: "link" }));
      busy.hidden = false;
    }

    function adopt() {
      delete busy.dataset.other;
      session = { id: null, mine: false, state: "", shown: "" };
      return follow();
    }

    page.addEventListener("status", tellBusy);
    page.addEventListener("gallery", fitForm);
    page.enrollAgain = (name) => {
      page.show("enroll");
      if (session) return;
      label.value = name;
      fitForm();
      begin.focus();
    };
    root.replaceChildren(form);
    fitForm();
    tellBusy();
    return { keys: [["Escape", "Give up", () => session && cancel()]] };
  },
};
