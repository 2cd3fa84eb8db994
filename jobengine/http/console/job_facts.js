// What is known of a job, and how events change it.

export const STATES = ["pending", "scheduled", "running", "completed", "failed", "cancelled"];
const FINAL = new Set(["completed", "cancelled"]);
export const hasEnded = (job) => FINAL.has(job.state) || job.state === "failed";
export const isWaiting = (job) => job.state === "pending" || job.state === "scheduled";

const INSTANT_OF = {
  "job.scheduled": "scheduledAt",
  "job.retried": "scheduledAt",
  "job.released": "scheduledAt",
  "job.started": "startedAt",
  "job.completed": "finishedAt",
  "job.failed": "finishedAt",
  "job.cancelled": "finishedAt",
};

function lastInstant(job) {
  const known = [job.createdAt, job.scheduledAt, job.startedAt, job.finishedAt];
  return known.reduce((last, at) => (at && at > last ? at : last), "");
}

// The job after an event about it; the same object where the event says nothing new. An event that
// is older than what was read of the job is already in it.
export function afterEvent(job, { eventType, occurredAt, job: said }) {
  if (FINAL.has(job.state) || occurredAt < lastInstant(job)) return job;
  const next = { ...job };
  if (said.status) Object.assign(next, { state: said.status, reason: said.reason, error: said.error });
  if (said.attempt) next.attempt = said.attempt;
  if (said.progress) next.progress = said.progress;
  if (said.priority !== undefined) next.priority = said.priority;
  const name = INSTANT_OF[eventType];
  if (name) next[name] = occurredAt;
  if (eventType === "job.started") Object.assign(next, { finishedAt: undefined, progress: undefined });
  return next;
}
