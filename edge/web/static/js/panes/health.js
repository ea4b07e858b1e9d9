// How daemon, sources and this page's server are: rates, ages, what was dropped and why, and the processor.

import { ago, clock, h, number, percent } from "../dom.js";

const MAX_LINES = 30;
const counts = (byReason) => Object.entries(byReason ?? {}).map(([reason, count]) => `${count} ${reason}`).join(", ");

function tile(name, value, more = "") {
  return h("div", {}, h("dt", {}, name), h("dd", {}, value, more ? h("small", {}, more) : null));
}

// The process that watches the sensor, where the camera has one.
function cameraOf(process) {
  if (!process) return null;
  const { kind, state, restarts, age_s: age, skipped, last_error: error, last_lines: lines } = process;
  return h("div", { class: "group" },
    h("h3", {}, `Camera ${kind}`),
    h("dl", { class: "tiles" },
      tile("State", state, restarts ? `restarted ${restarts} times` : ""),
      tile("Frames a second", number(process.fps, 1), skipped ? `${skipped} pictures skipped` : age == null ? "none came" : ago(age))),
    error ? h("p", { class: "callout bad" }, `${error[0].toUpperCase()}${error.slice(1)}.`) : null,
    error && lines.length ? h("details", {}, h("summary", {}, "What it printed last"), h("pre", {}, lines.join("\n"))) : null,
  );
}

export default {
  id: "health",
  title: "Health",
  mount(page, root) {
    const sources = h("div", { class: "group" });
    const daemon = h("dl", { class: "tiles" });
    const server = h("dl", { class: "tiles" });
    const lines = h("ol", { class: "log" });
    const quiet = h("p", { class: "hint" }, "No warning so far.");
    root.append(h("h2", {}, "Sources"), sources, h("h2", {}, "Daemon"), daemon, h("h2", {}, "This page"), server, h("h2", {}, "Warnings"), quiet, lines);
    page.link.addEventListener("log", ({ detail }) => {
      if (detail.level === "info") return;
      quiet.hidden = true;
      lines.prepend(h("li", {}, h("span", { class: "hint" }, `${clock(detail.heard_at)} `), detail.message));
      while (lines.children.length > MAX_LINES) lines.lastChild.remove();
    });

    function draw() {
      if (root.hidden || !page.status) return;
      const { status, server: own } = page;
      const seen = Object.entries(status.sources).map(([name, source]) => h("div", { class: "group" },
        h("h3", {}, name),
        h("dl", { class: "tiles" },
          tile("Frames a second", number(source.fps, 1), source.slow ? "too slow to enroll" : `${source.frames} so far`),
          tile("Last frame", ago(source.age_s)),
          tile("Lost on the way", String(source.lost), source.restarts ? `restarted ${source.restarts} times` : ""),
          tile("Not taken", String(Object.values(source.dropped).reduce((sum, count) => sum + count, 0)), counts(source.dropped)))));
      const camera = cameraOf(status.camera_process);
      if (!seen.length) seen.push(h("p", { class: "hint" }, `No frame has come from ${status.camera} yet.`));
      sources.replaceChildren(...(camera ? [camera, ...seen] : seen));
      daemon.replaceChildren(
        tile("Processor", status.cpu == null ? "–" : percent(status.cpu), "of one core"),
        tile("Work a frame", `${(status.per_frame_us.p50 / 1000).toFixed(1)} ms`, `p99 ${(status.per_frame_us.p99 / 1000).toFixed(1)} ms`),
        tile("Decisions", String(status.decisions), status.hops_skipped ? `${status.hops_skipped} skipped` : `each ${status.hop_s} s`),
        tile("In view", `${status.bodies}`, status.bodies_refused ? `${status.bodies_refused} refused` : "people"),
        tile("Engine", status.model.engine.runs, status.encodes_failed ? `${status.encodes_failed} failed` : status.model.name),
        tile("Unknown messages", counts(status.dropped) || "none"),
        tile("Up", ago(status.uptime_s).replace(" ago", ""), `version ${status.version}`),
        tile("Review", status.review ? String(status.review.kept) : "–", status.review?.state || counts(status.review?.not_kept) || "clips kept"),
      );
      if (!own) return;
      server.replaceChildren(
        tile("Browsers", String(own.browsers), "have the page open"),
        tile("Did not read", String(own.stuck), "were dropped"),
        tile("Daemon heard", own.silent_s == null ? "never" : ago(own.silent_s), own.control),
        tile("Version", own.version, own.unreadable ? `${own.unreadable} messages not read` : ""),
      );
    }

    page.addEventListener("status", draw);
    page.addEventListener("reach", draw);
    return { shown: draw };
  },
};
