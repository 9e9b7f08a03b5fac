// How long a job waits in an idle queue: from the return of the commit that enqueues it until the server has its request.
import { Genjob } from '../lib/genjob.mjs';
import { listen } from '../lib/listener.mjs';
import { figure, quantile, sleep } from '../lib/numbers.mjs';
import { Graphile, Rabbitmq, isChosen } from '../lib/peers.mjs';
import { addRow, keep } from '../lib/report.mjs';

export const title = 'one job at a time, from its commit to its request';

const samples = process.env.LONG ? 2000 : 300;

async function start(url) {
  const contestants = [await Genjob.start('pickup_genjob', { url })];
  if (isChosen('rabbitmq'))
    contestants.push(await Rabbitmq.start('pickup_rabbitmq', { url }));
  if (isChosen('graphile'))
    contestants.push(await Graphile.start('pickup_graphile', { url, batched: false, inFlight: 10, connections: 20 }));
  for (const contestant of contestants.slice(1))
    contestant.begin();
  return contestants.map((of) => ({ of, waits: [] }));
}

/** ms; below zero where the request was there before the session heard of its own commit. */
async function wait(contestant, id, listener) {
  let committed;
  const arrival = listener.next();
  await contestant.enqueueOne(id, () => { committed = performance.now(); });
  const waited = (await arrival) - committed;
  await sleep(20 + Math.random() * 20);
  return waited;
}

export async function measure() {
  const listener = await listen();
  const contestants = await start(listener.url);
  for (let id = -20; id < samples; id++)
    for (const { of, waits } of contestants) {
      const waited = await wait(of, id, listener);
      if (id >= 0)
        waits.push(waited);
    }
  for (const { of } of contestants)
    await of.stop();
  listener.close();
  tell(contestants);
}

function tell([{ waits: own }, ...peers]) {
  keep('pickup', Object.fromEntries([['genjob', own], ...peers.map(({ of, waits }) => [of.name, waits])]));
  for (const [name, share, goal] of [['p50', 0.5, 1], ['p99', 0.99, 3]]) {
    const value = quantile(own, share);
    const what = `pickup from an idle queue, ${name}`;
    const row = { what, genjob: `${figure(value)} ms`, goal: `≤ ${goal} ms`, met: value <= goal };
    if (peers.length === 0)
      addRow(row);
    for (const { of, waits } of peers)
      addRow({ ...row, beside: `${of.name}: ${figure(quantile(waits, share))} ms`, ratio: value / quantile(waits, share) });
  }
}
