// A worker of graphile-worker. Batched: it takes many jobs at a time and completes them together, as
// answers are written together. Plain: as its documentation begins.
import { Logger, run } from 'graphile-worker';
import { Countdown, call, database, save, settings, warmUp } from './work.mjs';

const countdown = new Countdown();
const logger = new Logger(() => (level, message) => level === 'error' && process.send({ error: message }));
const batches = {
  localQueue: { size: settings.inFlight * 2 },
  completeJobBatchDelay: 0,
  failJobBatchDelay: 0,
};

const taskList = {
  async generate(payload) {
    await save(payload.id, await call(JSON.stringify(payload.request)));
    countdown.done();
  },
};

let runner;
await warmUp();
process.on('message', async ({ run: n, stop }) => {
  if (n) {
    countdown.start(n);
    runner = await run({
      pgPool: database, taskList, logger, noHandleSignals: true,
      preset: { worker: { concurrentJobs: settings.inFlight, pollInterval: 2000, ...(settings.batched ? batches : {}) } },
    });
  }
  if (stop) {
    await runner.stop();
    process.send({ stopped: true });
  }
});
process.send({ ready: true });
