// A small picture of the whole graph with the part that is in sight; a click goes there.

import { lookOf } from "./looks.js";
import { NODE_HEIGHT, NODE_WIDTH } from "./placement.js";

const WIDTH = 168;
const HEIGHT = 96;

export class Minimap {
  /**
   * @param {(x: number, y: number) => void} goTo a place of the drawing
   * @param {AbortSignal} signal
   */
  constructor(goTo, signal) {
    this.canvas = document.createElement("canvas");
    this.canvas.className = "graph-minimap";
    this.canvas.setAttribute("aria-hidden", "true");
    this.base = document.createElement("canvas");
    const take = (event) => {
      if (event.type === "pointermove" && !event.buttons) return;
      const box = this.canvas.getBoundingClientRect();
      goTo((event.clientX - box.left - this.left) / this.scale, (event.clientY - box.top - this.top) / this.scale);
    };
    this.canvas.addEventListener("pointerdown", take, { signal });
    this.canvas.addEventListener("pointermove", take, { signal });
  }

  /** Paint the nodes anew: after a change of states, colours or layout. */
  refresh({ graph, layout }, palette, ratio) {
    this.scale = Math.min((WIDTH - 8) / layout.width, (HEIGHT - 8) / layout.height);
    this.left = (WIDTH - layout.width * this.scale) / 2;
    this.top = (HEIGHT - layout.height * this.scale) / 2;
    for (const canvas of [this.canvas, this.base]) {
      canvas.width = WIDTH * ratio;
      canvas.height = HEIGHT * ratio;
    }
    const pen = this.base.getContext("2d");
    pen.scale(ratio, ratio);
    pen.fillStyle = palette.surface;
    pen.fillRect(0, 0, WIDTH, HEIGHT);
    const [width, height] = [Math.max(1.5, NODE_WIDTH * this.scale), Math.max(1.5, NODE_HEIGHT * this.scale)];
    graph.nodes.forEach((node, at) => {
      pen.fillStyle = palette[`look-${lookOf(node)}`];
      pen.fillRect(this.left + layout.x[at] * this.scale, this.top + layout.y[at] * this.scale - height / 2, width, height);
    });
  }

  /** Show where the view is. */
  paint(view, palette, ratio) {
    const pen = this.canvas.getContext("2d");
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.drawImage(this.base, 0, 0);
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    const scale = this.scale / view.scale;
    pen.strokeStyle = palette.selected;
    pen.lineWidth = 1.5;
    pen.strokeRect(this.left - view.x * scale, this.top - view.y * scale, view.width * scale, view.height * scale);
  }
}
