// What an operator can do to a run as it stands, and to a node of it.

import { Operation } from "../operation.js";
import { html } from "../preact.js";
import { navigate } from "../router.js";
import { hasEnded } from "./runs_live.js";

const shown = (run) => navigate(`/runs/${run.runId}`);

export function RunActs({ run, live }) {
  if (!hasEnded(run)) {
    return html`<${Operation}
      label="Cancel" title="Cancel the run" danger path=${`${live.path}:cancel`} done=${live.reread}
      disabled=${Boolean(run.cancelRequestedAt)}
    >What has not ended is cancelled; what runs is asked to stop.<//>`;
  }
  if (run.state === "completed") return null;
  return html`<${Operation}
    label="Retry failed" title="Retry what failed" path=${`${live.path}:retryFailed`} body=${{}} done=${shown}
  >Begins a new run of what did not complete, and all behind it. What completed is kept.<//>`;
}

export function NodeActs({ run, node, live }) {
  const body = { key: node.key };
  if (node.kind === "approval" && node.open && node.state === "pending") {
    return html`<div class="actions">
      <${Operation} label="Approve" title=${`Approve ${node.key}`} path=${`${live.path}:approve`} body=${body} done=${live.reread}>
        The node completes, and what waits for it goes on.
      <//>
      <${Operation} label="Reject" title=${`Reject ${node.key}`} danger path=${`${live.path}:reject`} body=${body} done=${live.reread}>
        The node fails, and what needs it is cancelled.
      <//>
    </div>`;
  }
  if (!hasEnded(run)) return null;
  return html`<div class="actions">
    <${Operation} label="Replay from here" title=${`Replay from ${node.key}`} path=${`${live.path}:replayFrom`} body=${body} done=${shown}>
      Begins a new run of this node and all behind it. What completed elsewhere is kept.
    <//>
  </div>`;
}
