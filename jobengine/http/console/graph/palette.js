// The colours of the page as a canvas needs them: resolved, and read anew when the theme changes.

import { LOOKS } from "./looks.js";

const PROPERTIES = {
  surface: "--graph-surface",
  text: "--graph-text",
  muted: "--graph-muted",
  line: "--graph-line",
  edge: "--graph-edge",
  critical: "--graph-critical",
  selected: "--graph-selected",
  onLook: "--graph-on-look",
  background: "--graph-background",
};

/**
 * @param {Element} host whose properties count
 * @returns {Record<string, string>} by the names above, and `look-NAME` for each look
 */
export function paletteOf(host) {
  const probe = document.createElement("span");
  probe.hidden = true;
  host.append(probe);
  const resolved = (property) => {
    probe.style.color = `var(${property})`;
    return getComputedStyle(probe).color;
  };
  const palette = Object.fromEntries(
    Object.entries(PROPERTIES).map(([name, property]) => [name, resolved(property)]),
  );
  for (const look of Object.keys(LOOKS)) palette[`look-${look}`] = resolved(`--look-${look}`);
  palette.font = getComputedStyle(host).fontFamily;
  probe.remove();
  return palette;
}

/**
 * Calls back whenever the theme may have changed.
 * @param {() => void} changed
 * @param {AbortSignal} signal
 */
export function onTheme(changed, signal) {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed, { signal });
  const watch = new MutationObserver(changed);
  watch.observe(document.documentElement, { attributes: true, attributeFilter: ["class", "data-theme", "style"] });
  signal.addEventListener("abort", () => watch.disconnect(), { once: true });
}
