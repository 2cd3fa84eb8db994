// The thread that lays graphs out: one message with a graph, one with its layout.

import { layoutOf } from "./layout.js";

self.onmessage = ({ data }) => {
  const layout = layoutOf(data.levels, data.edges);
  self.postMessage(layout, [layout.x.buffer, layout.y.buffer, layout.offsets.buffer, layout.points.buffer]);
};
