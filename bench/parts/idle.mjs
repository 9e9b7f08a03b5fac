// What a queue with nothing to do does in a minute: queries, and how often the kernel wakes its processes. All contestants at
// once, as they do not disturb each other.
import { execFileSync } from 'node:child_process';

import { configure, connect } from '../lib/database.mjs';
import { Genjob } from '../lib/genjob.mjs';
import { sleep, sum, until } from '../lib/numbers.mjs';
import { Celery, Graphile, Rabbitmq, isChosen } from '../lib/peers.mjs';
import { family, wakeups } from '../lib/processes.mjs';
import { addRow, keep } from '../lib/report.mjs';

export const title = 'a minute with nothing to do';

const minute = 60;

const pidsOf = (pattern) => execFileSync('pgrep', ['-u', String(process.getuid()), '-f', pattern], { encoding: 'utf8' }).trim().split('\n').map(Number);

/** The broker's processes: those that run in this benchmark's folder. */
const broker = (pattern) => pidsOf(`${pattern}.*${process.cwd()}|${process.cwd()}.*${pattern}`);

async function start() {
  const own = await Genjob.start('idle_genjob');
  await own.enqueue(10);
  await until('genjob has done its jobs', async () => (await own.ended()) === 10);
  const contestants = [{ of: own, pids: async () => [await own.pid(), ...(await own.db.rows(
    "SELECT pid FROM pg_stat_activity WHERE backend_type = 'genjob launcher'")).map((row) => row.pid)] }];
  if (isChosen('rabbitmq')) {
    const of = await Rabbitmq.start('idle_rabbitmq');
    of.begin();
    contestants.push({ of, pids: async () => [of.pid, ...broker('beam')] });
  }
  if (isChosen('graphile')) {
    const of = await Graphile.start('idle_graphile');
    of.begin();
    contestants.push({ of, pids: async () => [of.pid] });
  }
  if (isChosen('celery')) {
    const of = await Celery.start('idle_celery');
    await of.begin();
    contestants.push({ of, pids: async () => [...family(of.pid), ...pidsOf(`redis-server.*${new URL(process.env.BENCH_REDIS).port}`)] });
  }
  return contestants;
}

/** Statements in a contestant's database since the last reset. */
async function queries(db, { database }) {
  return Number(await db.value(`SELECT coalesce(sum(calls), 0) FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid
    WHERE d.datname = $1`, [database]));
}

async function look(contestants) {
  return Promise.all(contestants.map(async ({ pids }) => sum((await pids()).map(wakeups))));
}

export async function measure() {
  const contestants = await start();
  await configure({ 'pg_stat_statements.track': 'all' });
  const db = await connect('postgres');
  await db.run('CREATE EXTENSION IF NOT EXISTS pg_stat_statements');
  await sleep(8000); // until what the starts left to do is done
  const before = await look(contestants);
  await db.run('SELECT pg_stat_statements_reset()');
  await sleep(minute * 1000);
  const counts = [];
  for (const { of } of contestants)
    counts.push(await queries(db, of));
  const after = await look(contestants);
  await configure({ 'pg_stat_statements.track': null });
  await db.end();
  for (const { of } of contestants)
    await of.stop();
  tell(contestants.map(({ of }, i) => ({ name: of.name, queries: counts[i], wakeups: after[i] - before[i] })));
}

function tell([own, ...peers]) {
  keep('idle', { minute: [own, ...peers] });
  for (const [word, what, goal] of [['queries', 'idle for a minute: queries', 0], ['wakeups', 'idle for a minute: wake-ups of processes', 1]]) {
    const row = { what, genjob: own[word].toLocaleString('en-US'), goal: goal ? `≤ ${goal}` : '0', met: own[word] <= goal };
    addRow({ ...row, beside: peers.map((peer) => `${peer.name}: ${peer[word].toLocaleString('en-US')}`).join(', ') });
  }
}
