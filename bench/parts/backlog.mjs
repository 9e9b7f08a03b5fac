// Whether a long queue is drained as fast as a short one: the first 10,000 jobs of a backlog, in turns with 10,000 jobs that are
// all there is, each in a database of its own.
import { settle } from '../lib/database.mjs';
import { Genjob } from '../lib/genjob.mjs';
import { figure, median, medianRatio, perSecond, until } from '../lib/numbers.mjs';
import { plot } from '../lib/plot.mjs';
import { addRow, keep } from '../lib/report.mjs';
import { reset } from '../lib/standin.mjs';

export const title = 'the drain of a long backlog beside that of a short queue';

const jobs = 10000;
const sizes = process.env.LONG ? [50000, 500000, 1000000, 2500000, 5000000] : [50000, 200000, 500000];
const rounds = process.env.LONG ? 7 : 3;

/** Drains as many jobs and leaves the queue at rest; jobs a second. */
async function turn(own) {
  await reset();
  const took = await own.drain(jobs);
  await own.pause();
  await until('calls in flight end', async () => (await own.db.value("SELECT count(*) FROM gen_jobs WHERE state = 'running'")) === 0);
  return jobs / took;
}

/** Makes the queue that long. */
async function fill(own, size) {
  const queued = await own.db.value("SELECT count(*) FROM gen_jobs WHERE state = 'queued'");
  await own.enqueue(size - queued);
}

async function compare(short, long, size) {
  const rates = { short: [], long: [] };
  await fill(long, size);
  await long.db.run('VACUUM ANALYZE gen_jobs'); // as autovacuum would in time, and not in the middle of a turn
  for (let round = 0; round < rounds; round++) {
    await short.clear();
    await settle();
    await fill(short, jobs);
    await fill(long, size);
    rates.short.push(await turn(short));
    rates.long.push(await turn(long));
  }
  return { size, ...rates };
}

export async function measure() {
  const short = await Genjob.start('backlog_short', { paused: 'on' });
  const long = await Genjob.start('backlog_long', { paused: 'on' });
  await compare(short, long, 20000); // warm
  const results = [];
  for (const size of sizes)
    results.push(await compare(short, long, size));
  await short.stop();
  await long.stop();
  tell(results);
}

function tell(results) {
  keep('backlog', { results });
  const { size, short, long } = results.at(-1);
  const ratio = medianRatio(long, short);
  addRow({ what: `drain of a backlog of ${figure(size)} jobs`, genjob: perSecond(median(long)),
    beside: `a queue of ${figure(jobs)}: ${perSecond(median(short))}`, ratio, goal: '≥ 0.9', met: ratio >= 0.9 });
  plot('backlog', [{ name: 'backlog', rows: results.map((result) => [result.size, median(result.long), median(result.short)]) }]);
}
