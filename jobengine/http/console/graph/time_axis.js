// The ticks of a time axis.

const STEPS_MS = [
  1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 15_000, 30_000, 60_000, 120_000, 300_000,
  600_000, 900_000, 1_800_000, 3_600_000, 7_200_000, 21_600_000, 43_200_000, 86_400_000,
];

/** The step between ticks that are at least `apartMs` apart. */
export function stepOf(apartMs) {
  const days = 86_400_000;
  return STEPS_MS.find((step) => step >= apartMs) ?? Math.ceil(apartMs / days) * days;
}

/** A place on the axis, in milliseconds from its beginning, as fine as the step needs. */
export function tickText(ms, step) {
  if (step < 1_000 && Math.abs(ms) < 1_000) return `${ms} ms`;
  if (step < 1_000) return `${(ms / 1_000).toFixed(step < 10 ? 3 : step < 100 ? 2 : 1)} s`;
  if (Math.abs(ms) < 60_000) return `${ms / 1_000} s`;
  const pad = (number) => String(number).padStart(2, "0");
  const [days, hours] = [Math.floor(ms / 86_400_000), Math.floor(ms / 3_600_000) % 24];
  const [minutes, seconds] = [Math.floor(ms / 60_000) % 60, Math.floor(ms / 1_000) % 60];
  const clock = days || hours ? `${hours}:${pad(minutes)}:${pad(seconds)}` : `${minutes}:${pad(seconds)}`;
  return days ? `${days} d ${clock}` : clock;
}
