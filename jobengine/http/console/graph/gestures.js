// What fingers, mouse and wheel ask of a picture that can be moved and scaled.

const TAP_PX = 6;
const WHEEL_LINE_PX = 16;

/**
 * @param {HTMLElement} stage
 * @param {object} asked
 * @param {(dx: number, dy: number) => void} asked.pan in CSS pixels
 * @param {(factor: number, x: number, y: number) => void} asked.zoom about a point of the stage
 * @param {(x: number, y: number) => void} asked.tap
 * @param {(x: number, y: number) => void} asked.hover
 * @param {() => void} asked.leave
 * @param {AbortSignal} signal
 */
export function onGestures(stage, asked, signal) {
  const fingers = new Map();
  let moved = 0;
  const at = (event) => {
    const box = stage.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  const listen = (name, take, options = {}) => stage.addEventListener(name, take, { signal, ...options });

  listen("pointerdown", (event) => {
    if (event.button) return;
    stage.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, at(event));
    if (fingers.size === 1) moved = 0;
    asked.leave();
  });
  listen("pointermove", (event) => {
    const now = at(event);
    if (!fingers.has(event.pointerId)) {
      if (event.pointerType === "mouse") asked.hover(now.x, now.y);
      return;
    }
    const before = [...fingers.values()];
    const was = fingers.get(event.pointerId);
    fingers.set(event.pointerId, now);
    moved += Math.hypot(now.x - was.x, now.y - was.y);
    if (fingers.size === 1) {
      if (moved > TAP_PX) asked.pan(now.x - was.x, now.y - was.y);
    } else if (fingers.size === 2) pinch(before, [...fingers.values()], asked);
  });
  const end = (event) => {
    const was = fingers.get(event.pointerId);
    if (!was) return;
    if (event.type === "pointerup" && fingers.size === 1 && moved <= TAP_PX) asked.tap(was.x, was.y);
    fingers.delete(event.pointerId);
  };
  listen("pointerup", end);
  listen("pointercancel", end);
  listen("pointerleave", () => asked.leave());
  listen("wheel", (event) => {
    event.preventDefault();
    const { x, y } = at(event);
    const pixels = event.deltaY * (event.deltaMode === WheelEvent.DOM_DELTA_LINE ? WHEEL_LINE_PX : 1);
    if (event.shiftKey) asked.pan(-pixels - event.deltaX, 0);
    else asked.zoom(Math.exp(-pixels * (event.ctrlKey ? 0.01 : 0.0016)), x, y);
  }, { passive: false });
}

function pinch([a, b], [c, d], asked) {
  const apart = Math.hypot(a.x - b.x, a.y - b.y);
  const now = { x: (c.x + d.x) / 2, y: (c.y + d.y) / 2 };
  asked.pan(now.x - (a.x + b.x) / 2, now.y - (a.y + b.y) / 2);
  if (apart) asked.zoom(Math.hypot(c.x - d.x, c.y - d.y) / apart, now.x, now.y);
}
