// What follows an end: a chain of two steps and calls of on_done, in turns with the same jobs without any of it.
import { configure, settle } from '../lib/database.mjs';
import { Genjob } from '../lib/genjob.mjs';
import { figure, median, medianRatio, perSecond, seconds, until } from '../lib/numbers.mjs';
import { addRow, keep } from '../lib/report.mjs';
import { requestSql, reset } from '../lib/standin.mjs';

export const title = 'a chain of two steps, and calls of on_done';

const jobs = 5000;
const turns = process.env.LONG ? 9 : 5;

/** Jobs that nothing follows. */
async function plain(genjob, n) {
  await genjob.enqueue(n);
  return n / (await genjob.drain(n));
}

/** Chains of two steps: of each the second waits for the first. */
async function chain(genjob, n) {
  await genjob.db.run(`
    WITH first AS (INSERT INTO gen_jobs (server, request) SELECT 'bench', ${requestSql('i')} FROM generate_series(1, $1::int) i RETURNING id)
    INSERT INTO gen_jobs (server, request, after) SELECT 'bench', ${requestSql('id')}, ARRAY[id] FROM first ORDER BY id`, [n]);
  await genjob.db.run('ANALYZE gen_jobs');
  return n / (await genjob.drain(2 * n));
}

/** Calls of a function that writes a row, which are made when all jobs have ended. */
async function calls(genjob, n) {
  await configure({ 'genjob.callback_workers': 0 });
  await genjob.enqueue(n, { columns: { on_done: "'note'" } });
  await genjob.drain(n);
  await until('the calls are due', async () => Number(await genjob.db.value('SELECT count(*) FROM genjob.callbacks')) === n);
  const began = seconds();
  await configure({ 'genjob.callback_workers': null });
  await until('the calls are made', async () => (await genjob.db.value('SELECT NOT EXISTS (SELECT FROM genjob.callbacks)')), { every: 10 });
  const took = seconds() - began;
  const made = Number(await genjob.db.value('SELECT count(*) FROM ledger'));
  if (made !== n)
    throw new Error(`${made} calls took effect, of ${n}`);
  return n / took;
}

async function turn(genjob, kind, n, rates) {
  await genjob.clear();
  await genjob.db.run('TRUNCATE ledger');
  await reset();
  await settle();
  rates.push(await kind(genjob, n));
  await genjob.pause();
  await genjob.db.run('VACUUM');
}

export async function measure() {
  const genjob = await Genjob.start('follow', { paused: 'on' });
  await genjob.db.run('CREATE TABLE ledger (job bigint, state text)');
  await genjob.db.run(`CREATE FUNCTION note(job gen_jobs) RETURNS void LANGUAGE sql
    BEGIN ATOMIC INSERT INTO ledger VALUES ((job).id, (job).state); END`);
  const kinds = [plain, chain, calls];
  const rates = { plain: [], chain: [], calls: [] };
  for (const kind of kinds)
    await turn(genjob, kind, 500, []);
  for (let round = 0; round < turns; round++)
    for (const kind of kinds)
      await turn(genjob, kind, jobs, rates[kind.name]);
  await genjob.stop();
  keep('follow', rates);
  tell(rates);
}

function tell({ plain: alone, chain: chains, calls: made }) {
  const ratio = medianRatio(chains, alone);
  const perChain = `${figure(median(chains))} chains/s`;
  addRow({ what: `${figure(jobs)} queued jobs that nothing follows`, genjob: perSecond(median(alone)) });
  addRow({ what: `${figure(jobs)} queued chains of two steps`, genjob: perChain, beside: `jobs that nothing follows: ${perSecond(median(alone))}`,
    ratio, goal: '≥ 0.45', met: ratio >= 0.45 });
  addRow({ what: `${figure(jobs)} calls of on_done; each writes a row`, genjob: `${figure(median(made))} calls/s`,
    goal: '≥ 2,000', met: median(made) >= 2000 });
}
