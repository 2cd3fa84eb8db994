// Who is asking: token, tenant and project, kept for this tab alone (sessionStorage).
//
// An address may bring them (`#token=…&tenant=…`); they are taken out of it before anything is
// drawn, so that they reach neither the history nor a copied link. `generation` grows with each
// new token: what was read with the old one is read again.

import { createStore } from "./store.js";

const KEY = "jobengine.session";
const NOBODY = { token: "", tenant: "", project: "", refusal: "", generation: 0 };

export const session = createStore(NOBODY);

export function connect({ token, tenant, project = "" }) {
  const kept = { token: token.trim(), tenant: tenant.trim(), project: project.trim() };
  sessionStorage.setItem(KEY, JSON.stringify(kept));
  session.set({ ...kept, refusal: "", generation: session.get().generation + 1 });
}

// The engine does not take this token any more; `message` is what it said. The tenant stays.
export function refuse(token, message) {
  if (token !== session.get().token) return;
  sessionStorage.removeItem(KEY);
  session.change({ token: "", refusal: message });
}

export function disconnect() {
  sessionStorage.removeItem(KEY);
  session.set({ ...NOBODY, generation: session.get().generation + 1 });
}

export function restore() {
  const given = new URLSearchParams(location.hash.slice(1));
  if (given.has("token")) {
    history.replaceState(history.state, "", location.pathname + location.search);
    connect({
      token: given.get("token"),
      tenant: given.get("tenant") ?? "demo",
      project: given.get("project") ?? "",
    });
    return;
  }
  const kept = sessionStorage.getItem(KEY);
  if (kept) connect(JSON.parse(kept));
}

// What the token says of itself: {subject, scopes, expiresAt (ms)}, or null where it is opaque (an
// API key) and only the engine knows.
export function claimsOf(token) {
  const part = token.split(".")[1];
  if (!part) return null;
  try {
    const binary = atob(part.replaceAll("-", "+").replaceAll("_", "/"));
    const claims = JSON.parse(new TextDecoder().decode(Uint8Array.from(binary, (c) => c.charCodeAt(0))));
    const scopes = typeof claims.scope === "string" ? claims.scope.split(" ") : null;
    return { subject: claims.sub ?? "", scopes, expiresAt: claims.exp ? claims.exp * 1000 : null };
  } catch {
    return null;
  }
}

// Whether the token has a scope; true where that cannot be told, for the engine decides anyway.
export function mayHave(scope) {
  const scopes = claimsOf(session.get().token)?.scopes;
  return !scopes || scopes.includes(scope);
}
