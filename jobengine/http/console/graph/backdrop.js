// Keeps what was painted of a graph, so that moving it costs a copy.
//
// A scene that is painted quickly is painted anew each time. One that takes longer is painted beyond
// the stage's edges; moves copy that, and steps of scale stretch it until there is rest.
//
// I1  What is copied shows the same states, colours and choice as the scene would.

const QUICK_MS = 6;
const BEYOND = 0.3;
const REST_MS = 100;
const SHARE = 5;

export class Backdrop {
  constructor() {
    this.canvas = document.createElement("canvas");
    this.pen = this.canvas.getContext("2d", { alpha: false });
    this.painted = null;
    this.tookMs = 0;
    this.at = 0;
  }

  /** What was painted is no longer right. */
  forget() {
    this.painted = null;
  }

  /**
   * @param {CanvasRenderingContext2D} pen of the stage
   * @param {unknown[]} key what else the picture depends on; by identity
   * @returns {boolean} false where the picture is not quite right, and is to be painted anew at rest
   */
  paint(pen, scene, view, shown, key) {
    const begunMs = performance.now();
    if (!this.#serves(view, key, begunMs)) {
      if (this.tookMs <= QUICK_MS) {
        scene.paint(pen, view, shown);
        this.tookMs = performance.now() - begunMs;
        return true;
      }
      this.#paint(scene, view, shown, key);
      this.tookMs = (performance.now() - begunMs) / (1 + 2 * BEYOND) ** 2;
    }
    return this.#copy(pen, view, shown.ratio, shown.palette.background) && same(this.painted.key, key);
  }

  /** Whether what was painted can stand for the view: all of it there, or stretched for a moment. */
  #serves(view, key, nowMs) {
    const { painted } = this;
    if (!painted || painted.width !== view.width || painted.height !== view.height) return false;
    if (!same(painted.key, key) && nowMs - this.at > REST_MS) return false;
    if (painted.scale !== view.scale) return Math.abs(Math.log(view.scale / painted.scale)) < 0.7;
    const [dx, dy] = [view.x - painted.x, view.y - painted.y];
    return Math.abs(dx) <= view.width * BEYOND && Math.abs(dy) <= view.height * BEYOND;
  }

  /** Milliseconds until what takes that long may be painted again, so that most time is the page's. */
  restMs() {
    return this.tookMs <= QUICK_MS ? 0 : Math.max(0, this.at + SHARE * this.tookMs - performance.now());
  }

  #paint(scene, view, shown, key) {
    const [width, height] = [view.width * (1 + 2 * BEYOND), view.height * (1 + 2 * BEYOND)];
    this.canvas.width = width * shown.ratio;
    this.canvas.height = height * shown.ratio;
    const wider = { x: view.x + view.width * BEYOND, y: view.y + view.height * BEYOND, scale: view.scale, width, height };
    scene.paint(this.pen, wider, shown);
    this.painted = { ...view, key };
    this.at = performance.now();
  }

  #copy(pen, view, ratio, background) {
    const { painted } = this;
    const grown = view.scale / painted.scale;
    const x = view.x - (painted.x + painted.width * BEYOND) * grown;
    const y = view.y - (painted.y + painted.height * BEYOND) * grown;
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.fillStyle = background;
    pen.fillRect(0, 0, view.width * ratio, view.height * ratio);
    pen.drawImage(this.canvas, Math.round(x * ratio), Math.round(y * ratio), this.canvas.width * grown, this.canvas.height * grown);
    return grown === 1;
  }
}

const same = (one, other) => one.every((part, at) => part === other[at]);
