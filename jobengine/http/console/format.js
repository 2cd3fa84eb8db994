// How numbers, instants and spans are written.

const number = new Intl.NumberFormat("en");
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium", hourCycle: "h23" });
const dated = new Intl.DateTimeFormat(undefined, {
  dateStyle: "medium",
  timeStyle: "medium",
  hourCycle: "h23",
});

export const count = (value) => number.format(value);
export const short = (value) => (value < 10_000 ? number.format(value) : compact.format(value));
export const rate = (value) => (value < 10 ? value.toFixed(1) : short(Math.round(value)));

// An instant of the API: the time today, with the date on other days.
export function instant(text) {
  const at = new Date(text);
  return at.toDateString() === new Date().toDateString() ? clock.format(at) : dated.format(at);
}

const UNITS = [
  ["d", 86_400],
  ["h", 3_600],
  ["min", 60],
];

// A span of seconds in at most two units: `350 ms`, `4.2 s`, `3 min 5 s`, `2 d 4 h`.
export function span(seconds) {
  if (seconds < 0) return "0 s";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const index = UNITS.findIndex(([, size]) => seconds >= size);
  const [unit, size] = UNITS[index];
  const [smallUnit, smallSize] = UNITS[index + 1] ?? ["s", 1];
  const rest = Math.floor((seconds % size) / smallSize);
  return `${Math.floor(seconds / size)} ${unit}${rest ? ` ${rest} ${smallUnit}` : ""}`;
}

export const between = (from, to) => span((Date.parse(to) - Date.parse(from)) / 1000);

export function bytes(size) {
  if (size < 1024) return `${size} B`;
  const power = Math.min(4, Math.floor(Math.log2(size) / 10));
  return `${(size / 1024 ** power).toFixed(1)} ${["", "KiB", "MiB", "GiB", "TiB"][power]}`;
}

// The part of an id in which ids of the same time differ.
export const shortId = (id) => (id.length > 13 ? `…${id.slice(-8)}` : id);
