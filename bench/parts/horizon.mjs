// 1,000 jobs a second while dead rows cannot be removed: whether finding and claiming a job takes longer and longer.
import { connect } from '../lib/database.mjs';
import { Genjob } from '../lib/genjob.mjs';
import { figure, median as medianOf, seconds, sleep, sum } from '../lib/numbers.mjs';
import { pins } from '../lib/pins.mjs';
import { plot } from '../lib/plot.mjs';
import { cpuSeconds } from '../lib/processes.mjs';
import { addRow, keep } from '../lib/report.mjs';
import { requestSql, reset } from '../lib/standin.mjs';

export const title = '1,000 jobs a second while dead rows cannot be removed';

const rate = 1000;
const batch = 20;
const duration = process.env.LONG ? 600 : 90;
const window = process.env.LONG ? 60 : 30; // the first is compared with the last
const step = 5;
const kinds = (process.env.PINS || (process.env.LONG ? 'transaction slot prepared nothing' : 'transaction')).split(' ');
const names = { transaction: 'an open transaction', slot: 'a replication slot', prepared: 'a prepared transaction', nothing: 'nobody' };

/** Enqueues at the rate until it is told to stop; answers how many. */
async function load(db, isOver) {
  const began = seconds();
  let n = 0;
  while (!isOver()) {
    await db.run(`INSERT INTO gen_jobs (server, request) SELECT 'bench', ${requestSql('i')} FROM generate_series($1::int, $2::int) i`, [n + 1, n + batch]);
    n += batch;
    const early = n / rate - (seconds() - began);
    if (early > 0)
      await sleep(early * 1000);
  }
  return n;
}

/** How many jobs have ended (each row is updated for its claim and for its answer), and the dispatcher's processor time, s. */
async function spent(own, pid) {
  const updates = await own.db.value("SELECT n_tup_upd::float8 FROM pg_stat_user_tables WHERE relname = 'gen_jobs'");
  return { jobs: updates / 2, cpu: cpuSeconds(pid), at: seconds() };
}

/** Samples, each of them of a step's time: time at its end (s), µs a job. */
async function sample(own, pid) {
  const list = [];
  const began = seconds();
  let last = await spent(own, pid);
  while (seconds() - began < duration) {
    await sleep((began + (list.length + 1) * step - seconds()) * 1000);
    const now = await spent(own, pid);
    const jobs = now.jobs - last.jobs;
    list.push({ at: now.at - began, jobs, rate: jobs / (now.at - last.at), cpu: ((now.cpu - last.cpu) * 1e6) / jobs });
    last = now;
  }
  return list;
}

async function run(kind) {
  const own = await Genjob.start('horizon_genjob');
  const pid = await own.pid();
  await reset();
  const release = await pins[kind]('horizon_genjob');
  let over = false;
  const loader = await connect('horizon_genjob');
  const enqueued = load(loader, () => over);
  await sleep(3000); // plans and caches are those of every day
  const samples = await sample(own, pid);
  over = true;
  const left = (await enqueued) - (await own.ended());
  await loader.end();
  await release();
  await own.stop();
  return { kind, samples, left };
}

// Of the samples' figures: what it takes as a rule, and with all that came in between.
const median = (samples) => medianOf(samples.map((s) => s.cpu));
const mean = (samples) => sum(samples.map((s) => s.cpu * s.jobs)) / sum(samples.map((s) => s.jobs));

function tell({ kind, samples, left }) {
  const first = samples.filter((s) => s.at <= window + 1);
  const last = samples.filter((s) => s.at > samples.at(-1).at - window + 1);
  const minutes = duration / 60;
  const rows = [
    ["the dispatcher's processor time", median, 1.1],
    ['the same, with the search for jobs that no commit reported that begins every ten minutes', mean, null],
  ];
  for (const [what, average, goal] of rows) {
    const before = average(first);
    const after = average(last);
    addRow({ what: `${what}, horizon held by ${names[kind]} for ${figure(minutes).replace(/\.?0+$/, '')} min`, genjob: `${figure(after)} µs a job`,
      beside: `in the first ${window} s: ${figure(before)} µs`, ratio: after / before, goal: goal && `≤ ${goal}`, met: goal && after / before <= goal });
  }
  if (left > rate)
    addRow({ what: `jobs left behind at ${rate} jobs/s, horizon held by ${names[kind]}`, genjob: figure(left), goal: '0', met: false });
}

export async function measure() {
  const runs = [];
  for (const kind of kinds)
    runs.push(await run(kind));
  keep('horizon', { runs });
  runs.forEach(tell);
  plot('horizon', runs.map(({ kind, samples }) => ({ name: names[kind], rows: samples.map((s) => [s.at, s.cpu]) })));
}
