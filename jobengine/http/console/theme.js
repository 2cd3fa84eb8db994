// Dark or light: as the system says until somebody chooses, which this browser remembers.

import { createStore } from "./store.js";

const KEY = "jobengine.theme";
const CHOICES = ["system", "light", "dark"];

export const theme = createStore(localStorage.getItem(KEY) ?? "system");

function show() {
  const chosen = theme.get();
  if (chosen === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = chosen;
}

export function nextTheme() {
  theme.set(CHOICES[(CHOICES.indexOf(theme.get()) + 1) % CHOICES.length]);
  localStorage.setItem(KEY, theme.get());
}

theme.watch(show);
show();
