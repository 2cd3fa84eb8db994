// What surrounds every page: navigation, how the live feed stands, theme, and the way out.

import { html, useEffect, useLayoutEffect, useRef } from "./preact.js";
import { AskAgain, Welcome } from "./access.js";
import { feed } from "./feed.js";
import { count } from "./format.js";
import { PageHead } from "./parts.js";
import { Link, pageAt, registeredPages, usePlace } from "./router.js";
import { claimsOf, disconnect, session } from "./session.js";
import { useStore } from "./store.js";
import { nextTheme, theme } from "./theme.js";

const WORDS = {
  idle: "not connected",
  connecting: "connecting…",
  live: "live",
  reconnecting: "reconnecting…",
  refused: "no events",
};

function FeedState() {
  const { state, lastSeq, taken, message } = useStore(feed);
  const title = message || (lastSeq === null ? "" : `up to event ${count(lastSeq)}`);
  return html`<span
    id="feed"
    class="feed"
    title=${title}
    data-feed=${state}
    data-last-seq=${lastSeq ?? ""}
    data-taken=${taken}
    ><span role="status">${WORDS[state]}</span></span
  >`;
}

function ThemeButton() {
  const chosen = useStore(theme);
  return html`<button type="button" class="plain" onClick=${nextTheme}>
    <span aria-hidden="true">◐ </span><span class="visually-hidden">Theme: </span>${chosen}
  </button>`;
}

function Header({ section }) {
  const { tenant, token } = useStore(session);
  const subject = claimsOf(token)?.subject;
  return html`<header class="bar">
    <${Link} to="/" class="brand">jobengine<//>
    <nav aria-label="Pages">
      ${registeredPages()
        .filter((page) => page.label)
        .map(
          (page) => html`<${Link}
            key=${page.label}
            to=${page.pattern}
            aria-current=${page.section === section ? "page" : undefined}
            >${page.label}<//
          >`,
        )}
    </nav>
    <div class="who">
      <${FeedState} />
      <span class="tenant" title=${subject ? `signed in as ${subject}` : ""}>${tenant}</span>
      <${ThemeButton} />
      <button type="button" class="plain" onClick=${disconnect}>Sign out</button>
    </div>
  </header>`;
}

function Lost() {
  return html`<${PageHead} title="There is no page here" />
    <p><${Link} to="/">To the overview<//></p>`;
}

// The page at the address. Another address gets the focus on its heading, as a loaded page would.
function Place() {
  const found = pageAt(usePlace());
  const main = useRef(null);
  const before = useRef(null);
  const at = found ? `${found.page.pattern} ${Object.values(found.params).join(" ")}` : "";
  useLayoutEffect(() => {
    if (before.current !== null && before.current !== at) {
      main.current.querySelector("h1")?.focus({ preventScroll: true });
    }
    before.current = at;
  }, [at]);
  useEffect(() => {
    document.title = `${found ? found.page.title(found.params) : "Nothing here"} · jobengine`;
  }, [at]);
  return html`<${Header} section=${found?.page.section} />
    <main id="main" tabindex="-1" ref=${main}>
      ${found
        ? html`<${found.page.component} key=${at} params=${found.params} query=${found.query} />`
        : html`<${Lost} />`}
    </main>`;
}

export function Shell() {
  const { token, refusal, generation } = useStore(session);
  const known = generation > 0 && (token || refusal);
  if (!known) return html`<${Welcome} />`;
  return html`<a class="skip" href="#main">Skip to content</a>
    <${Place} />
    ${!token && html`<${AskAgain} />`}`;
}
