// Graphile Worker 0.18.
//
// Best documented settings: those of its own measurement at
// https://worker.graphile.org/docs/performance (24 concurrent jobs, a pool of 25, a local queue of
// 500, completions in batches without a delay), and add_jobs for bulk. A finished job is deleted.

import { load, speak } from "./talk.mjs";

const { Logger, makeWorkerUtils, run } = load("graphile-worker");

const logger = new Logger(() => () => {});

await speak(async (url, clients) => {
  const options = (poolSize) => ({
    preset: {
      worker: {
        connectionString: url,
        maxPoolSize: poolSize,
        concurrentJobs: 24,
        localQueue: { size: 500 },
        completeJobBatchDelay: 0,
        failJobBatchDelay: 0,
        logger,
      },
    },
    noHandleSignals: true,
  });
  const utils = await makeWorkerUtils(options(Math.max(clients, 2)));
  return {
    install: () => utils.migrate(),
    submit: (jobs) =>
      jobs.length === 1
        ? utils.addJob("noop", jobs[0])
        : utils.addJobs(jobs.map((payload) => ({ identifier: "noop", payload }))),
    work: async (handled) => {
      const taskList = { noop: async (payload) => handled(payload.n) };
      await run({ ...options(25), taskList });
    },
  };
});
