// What the drivers of Node.js peers share: the same orders and answers as talk.py.

import { randomBytes } from "node:crypto";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const TELL_EVERY_MS = 20;

// A package of the directory named on the command line, where the peers are installed.
export const load = createRequire(`${process.argv[2]}/package.json`);

const say = (said) => process.stdout.write(JSON.stringify(said) + "\n");
const monotonicS = () => Number(process.hrtime.bigint()) / 1e9;
const realtimeNs = () => Math.round((performance.timeOrigin + performance.now()) * 1e6);
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// Whoever started this process is gone.
process.stdout.on("error", () => process.exit(0));

// `open(url, clients)` gives { install, submit(payloads), work(handled) }.
export async function speak(open) {
  const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  const plan = JSON.parse((await lines.next()).value);
  const tally = { count: 0, record: [] };
  const driver = await open(plan.url, plan.clients ?? 1);
  let told = -1;
  setInterval(() => {
    if (tally.count !== told) {
      told = tally.count;
      say({ count: told, at: monotonicS() });
    }
  }, TELL_EVERY_MS);
  if (plan.role === "setup") {
    await driver.install();
  } else if (plan.role === "worker") {
    await driver.work((number) => {
      tally.count += 1;
      if (plan.record) tally.record.push([number, realtimeNs()]);
    });
  }
  say({ ready: true });
  for await (const line of { [Symbol.asyncIterator]: () => lines }) {
    const order = JSON.parse(line);
    if (order.do === "submit") await submit(driver, tally, order);
    else say({ handled: tally.count, record: tally.record });
  }
  process.exit(0);
}

async function submit(driver, tally, order) {
  const before = tally.count;
  const beganAt = monotonicS();
  const record = [];
  const batches = batchesOf(order, beganAt);
  const client = async () => {
    for (const [at, jobs] of batches) {
      const earlyS = at - monotonicS();
      if (earlyS > 0) await sleep(earlyS * 1000);
      const sentNs = realtimeNs();
      await driver.submit(jobs);
      tally.count += jobs.length;
      if (order.record) {
        const ackedNs = realtimeNs();
        for (const job of jobs) record.push([job.n, sentNs, ackedNs]);
      }
    }
  };
  await Promise.all(Array.from({ length: order.clients }, client));
  say({ jobs: tally.count - before, began_at: beganAt, ended_at: monotonicS(), record });
}

// When to send, and what; shared by all clients. No two payloads are alike.
function* batchesOf(order, beganAt) {
  const everyS = order.rate ? order.batch / order.rate : 0;
  const filler = Math.max(0, order.payload_bytes - '{"n":10000000,"x":""}'.length);
  const noise = randomBytes(1 << 15).toString("hex");
  let number = 10_000_000;
  for (let start = 0, batch = 0; start < order.jobs; start += order.batch, batch += 1) {
    const size = Math.min(order.batch, order.jobs - start);
    const jobs = Array.from({ length: size }, () => {
      const from = Math.floor(Math.random() * (noise.length - filler));
      return { n: number++, x: noise.slice(from, from + filler) };
    });
    yield [beganAt + batch * everyS, jobs];
  }
}
