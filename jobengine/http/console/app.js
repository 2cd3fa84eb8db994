// Where the console begins: its pages, then the session, the feed and the first drawing.

import { html, render } from "./preact.js";
import { startFeed } from "./feed.js";
import { registerPage } from "./router.js";
import { restore } from "./session.js";
import { Shell } from "./shell.js";
import { Job } from "./views/job.js";
import { Jobs } from "./views/jobs.js";
import { Overview } from "./views/overview.js";
import { Runs } from "./views/runs.js";
import { Run } from "./views/runs_detail.js";

registerPage({ pattern: "/", title: () => "Overview", component: Overview, label: "Overview" });
registerPage({ pattern: "/jobs", title: () => "Jobs", component: Jobs, label: "Jobs" });
registerPage({
  pattern: "/jobs/:jobId",
  title: ({ jobId }) => `Job ${jobId}`,
  component: Job,
  section: "Jobs",
});
registerPage({ pattern: "/runs", title: () => "Runs", component: Runs, label: "Runs" });
registerPage({
  pattern: "/runs/:runId",
  title: ({ runId }) => `Run ${runId}`,
  component: Run,
  section: "Runs",
});

restore();
startFeed();
render(html`<${Shell} />`, document.getElementById("console"));
