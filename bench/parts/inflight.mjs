// 8,000 calls of 4 s at once: when the last answer is committed, and what a waiting job takes of the worker's memory.
import { Genjob } from '../lib/genjob.mjs';
import { figure, median, sleep } from '../lib/numbers.mjs';
import { Graphile, Rabbitmq, isChosen } from '../lib/peers.mjs';
import { ownMemory } from '../lib/processes.mjs';
import { addRow, keep } from '../lib/report.mjs';
import { counts, reset } from '../lib/standin.mjs';

export const title = '8,000 calls of 4 s in flight at once';

const calls = 8000;
const latency = 4000;
const rounds = process.env.LONG ? 5 : 3;

async function start() {
  const contestants = [await Genjob.start('inflight_genjob', { max_in_flight: calls, paused: 'on' })];
  if (isChosen('rabbitmq'))
    contestants.push(await Rabbitmq.start('inflight_rabbitmq', { inFlight: calls }));
  if (isChosen('graphile'))
    contestants.push(await Graphile.start('inflight_graphile', { inFlight: calls }));
  // what a process had before its first round: it keeps what it was given once
  return Promise.all(contestants.map(async (of) => ({ of, times: [], memory: [], base: ownMemory(await processOf(of)) })));
}

const processOf = async (contestant) => (contestant instanceof Genjob ? contestant.pid() : contestant.pid);

/** The most memory that a process has before a promise is kept, in bytes. */
async function watchMemory(pid, promise) {
  let most = 0;
  let ended = false;
  const end = promise.finally(() => { ended = true; });
  while (!ended) {
    most = Math.max(most, ownMemory(pid));
    await Promise.race([sleep(250), end]);
  }
  return most;
}

async function turn({ of, times, memory, base }) {
  const pid = await processOf(of);
  await of.clear();
  await of.enqueue(calls, { latency });
  await reset();
  const drained = of.drain(calls);
  const most = await watchMemory(pid, drained);
  times.push(await drained);
  memory.push((most - base) / calls);
  const { max_in_flight: atOnce, total } = await counts();
  if (total !== calls)
    throw new Error(`${of.name}: ${total} calls for ${calls} jobs`);
  if (of instanceof Genjob) {
    keep('inflight', { atOnce });
    await of.pause();
  }
}

export async function measure() {
  const contestants = await start();
  for (let round = 0; round < rounds; round++)
    for (const contestant of contestants)
      await turn(contestant);
  for (const { of } of contestants)
    await of.stop();
  tell(contestants);
}

function tell(contestants) {
  const [own, ...peers] = contestants.map(({ of, times, memory }) => ({ name: of.name, time: median(times), memory: median(memory) }));
  keep('inflight', { times: Object.fromEntries(contestants.map(({ of, times, memory }) => [of.name, { times, memory }])) });
  const what = '8,000 calls of 4 s at once, to the last answer';
  const row = { what, genjob: `${figure(own.time)} s`, goal: '≤ 5 s', met: own.time <= 5 };
  addRow({ ...row, beside: 'the server alone: 4 s', ratio: own.time / (latency / 1000) });
  for (const peer of peers)
    addRow({ ...row, beside: `${peer.name}: ${figure(peer.time)} s`, ratio: own.time / peer.time });
  const kilobytes = own.memory / 1000;
  const memory = { what: 'memory of the worker for each waiting job', genjob: `${figure(kilobytes)} kB`, goal: '≤ 30 kB', met: kilobytes <= 30 };
  if (peers.length === 0)
    addRow(memory);
  for (const peer of peers)
    addRow({ ...memory, beside: `${peer.name}: ${figure(peer.memory / 1000)} kB`, ratio: own.memory / peer.memory });
}
