// How a node's state looks: a word, a sign and a colour, so that colour never speaks alone.
//
// A *look* is the state of a job as a person asks for it: of what is `pending` some wait for the
// outside, of what is `scheduled` some come back after a failure, of what is `cancelled` some were
// skipped by the run itself.

const CIRCLE = "M8 2.2a5.8 5.8 0 1 1 0 11.6a5.8 5.8 0 1 1 0-11.6Z";

/**
 * `path` is drawn in a box of 16 by 16. The colour of a look is the property `--look-NAME`.
 * @type {Record<string, {label: string, path: string, filled?: boolean}>}
 */
export const LOOKS = {
  pending: { label: "pending", path: CIRCLE },
  waiting: { label: "waits for the outside", path: "M5.6 3.6v8.8M10.4 3.6v8.8" },
  scheduled: { label: "scheduled", path: `${CIRCLE}M8 5v3.3l2.2 1.5` },
  retrying: { label: "to be retried", path: "M12.7 5.6A5.3 5.3 0 1 0 13.3 8.6M13 2.4v3.4H9.6" },
  running: { label: "running", path: "M5.2 3.4l7.3 4.6l-7.3 4.6Z", filled: true },
  completed: { label: "completed", path: "M3.2 8.6l3.2 3.2l6.4-7" },
  failed: { label: "failed", path: "M4.2 4.2l7.6 7.6M11.8 4.2l-7.6 7.6" },
  cancelled: { label: "cancelled", path: `${CIRCLE}M4.1 11.9l7.8-7.8` },
  skipped: { label: "skipped", path: "M3.6 4.2l3.8 3.8l-3.8 3.8M8.6 4.2l3.8 3.8l-3.8 3.8" },
};

/** @param {{state: string, reason?: string, open?: boolean, attempt?: number}} node */
export function lookOf(node) {
  if (node.state === "pending" && node.open) return "waiting";
  if (node.state === "scheduled" && node.attempt > 0) return "retrying";
  if (node.state === "cancelled" && node.reason === "skipped") return "skipped";
  return node.state in LOOKS ? node.state : "pending";
}

const SVG = "http://www.w3.org/2000/svg";

/** The sign of a look as an element, for legends, tables and badges. */
export function signOf(look) {
  const { path, filled } = LOOKS[look];
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", `look-sign look-${look}`);
  const line = document.createElementNS(SVG, "path");
  line.setAttribute("d", path);
  line.setAttribute("class", filled ? "look-filled" : "look-line");
  svg.append(line);
  return svg;
}

/** A sign with its word. */
export function badgeOf(look, word = LOOKS[look].label) {
  const badge = document.createElement("span");
  badge.className = `look-badge look-${look}`;
  badge.dataset.look = look;
  badge.append(signOf(look), word);
  return badge;
}

/** The legend of a picture that shows these looks. */
export function legendOf(names = Object.keys(LOOKS)) {
  const list = document.createElement("ul");
  list.className = "look-legend";
  list.setAttribute("aria-label", "Legend");
  for (const name of names) {
    const item = document.createElement("li");
    item.append(badgeOf(name));
    list.append(item);
  }
  return list;
}
