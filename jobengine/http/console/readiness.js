// Whether the engine is ready, and how loaded: of the node as a whole, so asked without a token.

import { useEffect, useState } from "./preact.js";

const UNKNOWN = { known: false, ready: true, load: undefined, message: "" };

// {known, ready, load, message}; `load` is a level, with its causes behind a colon where it has some.
export function useReadiness(everyMs) {
  const [state, setState] = useState(UNKNOWN);
  useEffect(() => {
    let timer = 0;
    const abort = new AbortController();
    const look = async () => {
      if (!document.hidden) setState(await ask(abort.signal));
      if (!abort.signal.aborted) timer = setTimeout(look, everyMs);
    };
    look();
    return () => {
      abort.abort();
      clearTimeout(timer);
    };
  }, [everyMs]);
  return state;
}

async function ask(signal) {
  try {
    const response = await fetch("/readyz", { signal, cache: "no-store" });
    const { ready, checks = [], error } = await response.json();
    const load = checks.find((check) => check.name === "load")?.detail;
    return { known: true, ready, load, message: error?.message ?? "" };
  } catch {
    return { known: true, ready: false, load: undefined, message: "The engine does not answer." };
  }
}
