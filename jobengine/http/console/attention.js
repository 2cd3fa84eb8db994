// Whether anybody looks. A browser opens few connections to one origin, all of its tabs together;
// a tab that has been out of sight for a while therefore gives its streams up, and goes on where it
// was when it is looked at again.

import { createStore } from "./store.js";

const OUT_OF_SIGHT_MS = 30_000;

export const attention = createStore(true);

let timer = 0;
document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  if (!document.hidden) attention.set(true);
  else timer = setTimeout(() => attention.set(false), OUT_OF_SIGHT_MS);
});
