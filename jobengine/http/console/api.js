// Requests to the public API, as whoever the session says.
//
// An answer that refuses becomes an ApiError with the engine's own words. One that refuses the
// token itself also ends the session, which asks for another one; until it has one, nothing is
// asked of the engine.

import { useCallback, useEffect, useRef, useState } from "./preact.js";
import { refuse, session } from "./session.js";
import { useStore } from "./store.js";

export const BASE = "/api/v1/jobengine";
const OF_THE_TOKEN = new Set(["TOKEN_INVALID", "TENANT_FORBIDDEN", "TENANT_REQUIRED"]);

export class ApiError extends Error {
  constructor(status, { code, message, details, state, traceId } = {}) {
    super(message ?? `the engine answered with status ${status}`);
    Object.assign(this, { status, code: code ?? "", details: details ?? [], state, traceId });
  }

  /** Whether asking again would be refused again. */
  get isFinal() {
    return this.status >= 400 && this.status < 500 && this.status !== 408 && this.status !== 429;
  }
}

// The engine cannot be reached; it may be starting again.
export class UnreachableError extends Error {
  constructor() {
    super("The engine does not answer.");
  }
}

// The response to a request below BASE, once it is known not to be a refusal.
export async function call(path, { headers = {}, ...options } = {}) {
  const { token, tenant, project, refusal } = session.get();
  if (!token) throw new ApiError(401, { code: "TOKEN_INVALID", message: refusal });
  const asked = { Authorization: `Bearer ${token}`, "X-Stella-Tenant": tenant, ...headers };
  if (project) asked["X-Stella-Project"] = project;
  let response;
  try {
    response = await fetch(BASE + path, { ...options, headers: asked, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new UnreachableError();
  }
  if (response.ok || response.status === 304) return response;
  const error = new ApiError(response.status, (await bodyOf(response))?.error);
  if (response.status === 401 || OF_THE_TOKEN.has(error.code)) refuse(token, error.message);
  throw error;
}

async function bodyOf(response) {
  try {
    return await response.json();
  } catch {
    return null;
  }
}

export async function read(path, options) {
  const response = await call(path, options);
  return response.status === 204 ? null : response.json();
}

// An operation: `reason` and `ticket` go into the audit trail, `key` makes a repeat harmless.
export function operate(path, { body, reason, ticket, key }) {
  const headers = { "Content-Type": "application/json" };
  if (reason) headers["X-Stella-Operator-Reason"] = reason;
  if (ticket) headers["X-Stella-Operator-Ticket"] = ticket;
  if (key) headers["Idempotency-Key"] = key;
  return read(path, { method: "POST", headers, body: body && JSON.stringify(body) });
}

export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// A query string of the fields that are set; lists are joined by commas.
export function queryOf(fields) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(fields)) {
    const text = Array.isArray(value) ? value.join(",") : value;
    if (text !== undefined && text !== null && text !== "") query.set(name, text);
  }
  const text = query.toString();
  return text && `?${text}`;
}

const SHARE = 10;

// {data, error, loading, reload} of a GET. Data of an earlier read stays until newer comes; with
// `everyMs` it is read again while the page is looked at, and for a tenth of the time at most: an
// answer that takes the engine long is asked for less often. `path` null reads nothing; another
// `round` reads again.
export function useRead(path, { everyMs = 0, round = 0 } = {}) {
  const generation = useStore(session, (value) => value.generation);
  const [state, setState] = useState({ path: null, data: null, error: null, loading: true });
  const [asked, setAsked] = useState(0);
  const timer = useRef(0);
  const reload = useCallback(() => setAsked((count) => count + 1), []);

  useEffect(() => {
    if (path === null || !session.get().token) return undefined;
    const abort = new AbortController();
    const again = (tookMs = 0) => {
      if (everyMs) timer.current = setTimeout(look, Math.max(everyMs, SHARE * tookMs));
    };
    const look = async () => {
      if (document.hidden && everyMs) return again();
      const beganAt = performance.now();
      setState((was) => ({ ...was, loading: true, data: was.path === path ? was.data : null }));
      try {
        const data = await read(path, { signal: abort.signal });
        setState({ path, data, error: null, loading: false });
      } catch (error) {
        if (abort.signal.aborted) return undefined;
        setState((was) => ({ ...was, path, error, loading: false }));
      }
      return again(performance.now() - beganAt);
    };
    look();
    return () => {
      abort.abort();
      clearTimeout(timer.current);
    };
  }, [path, everyMs, generation, round, asked]);

  return { ...state, reload };
}
