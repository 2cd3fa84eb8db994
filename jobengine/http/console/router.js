// Addresses of the console. A page registers a pattern such as `/jobs/:jobId`; the part of the
// address behind `/console` chooses it. Links within the console do not load the document again.

import { html } from "./preact.js";
import { createStore, useStore } from "./store.js";

export const ROOT = "/console";
const pages = [];

// `component` is drawn with {params, query}. `label` puts the page into the navigation; `section`
// names the entry of the navigation that a page without one belongs to.
export function registerPage({ pattern, title, component, label = null, section = label }) {
  const names = [];
  const source = pattern.replace(/:([A-Za-z]+)/g, (_, name) => {
    names.push(name);
    return "([^/]+)";
  });
  pages.push({ pattern, title, component, label, section, names, matches: new RegExp(`^${source}$`) });
}

export const registeredPages = () => pages;

function current() {
  const path = location.pathname.slice(ROOT.length).replace(/\/$/, "") || "/";
  return { path, query: new URLSearchParams(location.search) };
}

export const place = createStore(current());

export function navigate(path, { replace = false } = {}) {
  const address = ROOT + (path === "/" ? "" : path);
  if (replace) history.replaceState(null, "", address);
  else history.pushState(null, "", address);
  place.set(current());
  if (!replace) scrollTo(0, 0);
}

addEventListener("popstate", () => place.set(current()));

export function pageAt({ path, query }) {
  for (const page of pages) {
    const found = page.matches.exec(path);
    if (found) {
      const params = Object.fromEntries(
        page.names.map((name, index) => [name, decodeURIComponent(found[index + 1])]),
      );
      return { page, params, query };
    }
  }
  return null;
}

export const usePlace = () => useStore(place);

// A link to a page of the console; modified clicks are left to the browser.
export function Link({ to, children, ...rest }) {
  const follow = (event) => {
    if (event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    navigate(to);
  };
  return html`<a href=${ROOT + (to === "/" ? "" : to)} onClick=${follow} ...${rest}>${children}</a>`;
}
