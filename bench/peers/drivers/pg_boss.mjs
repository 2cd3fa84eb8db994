// pg-boss 12.
//
// Best documented settings (https://github.com/timgit/pg-boss, docs/api/workers.md): batches for the
// handler, burstWhenBatchFull so that a full batch is followed by the next at once, and
// LISTEN/NOTIFY so that an idle worker is woken; insert() for bulk.

import { load, speak } from "./talk.mjs";

const { PgBoss } = load("pg-boss");

const QUEUE = "noop";
const BATCH = 1000;

await speak(async (url, clients) => {
  const boss = new PgBoss({
    connectionString: url,
    max: Math.max(clients, 10),
    useListenNotify: true,
  });
  boss.on("error", (error) => {
    process.stderr.write(`${error}\n`);
    process.exit(1);
  });
  await boss.start();
  return {
    install: () => boss.createQueue(QUEUE, { notify: true }),
    submit: (jobs) =>
      jobs.length === 1
        ? boss.send(QUEUE, jobs[0])
        : boss.insert(QUEUE, jobs.map((data) => ({ data }))),
    work: (handled) =>
      boss.work(
        QUEUE,
        { batchSize: BATCH, burstWhenBatchFull: true, pollingIntervalSeconds: 0.5 },
        async (jobs) => {
          for (const job of jobs) handled(job.data.n);
        },
      ),
  };
});
