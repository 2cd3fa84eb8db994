// A value that pages watch. Changes replace the value; whoever uses it is drawn anew.

import { useLayoutEffect, useState } from "./preact.js";

export function createStore(value) {
  const watchers = new Set();
  return {
    get: () => value,
    set(next) {
      if (Object.is(next, value)) return;
      value = next;
      for (const watcher of [...watchers]) watcher();
    },
    change(fields) {
      this.set({ ...value, ...fields });
    },
    watch(watcher) {
      watchers.add(watcher);
      return () => watchers.delete(watcher);
    },
  };
}

// `select` keeps a component from being drawn for fields that it does not show.
export function useStore(store, select = (value) => value) {
  const [, draw] = useState(0);
  const chosen = select(store.get());
  useLayoutEffect(() => {
    let last = chosen;
    const check = () => {
      const next = select(store.get());
      if (Object.is(next, last)) return;
      last = next;
      draw((count) => count + 1);
    };
    check();
    return store.watch(check);
  }, [store, chosen]);
  return chosen;
}
