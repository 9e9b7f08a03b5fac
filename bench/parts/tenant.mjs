// How long one tenant's first job waits behind another's hundred thousand: counted in jobs that are started before it.
import { Genjob } from '../lib/genjob.mjs';
import { figure, median, quantile, sleep, until } from '../lib/numbers.mjs';
import { addRow, keep } from '../lib/report.mjs';
import { request, requestSql, reset } from '../lib/standin.mjs';

export const title = 'a tenant whose job comes after all of another\'s';

const backlog = process.env.LONG ? 1000000 : 100000;
const samples = process.env.LONG ? 200 : 50;
const slots = 8;
const what = `first job of a tenant behind ${figure(backlog)} of another's: jobs before it`;
const goal = { goal: '≤ 1', what };

const hasTenants = (own) => own.db.value("SELECT count(*) = 1 FROM pg_attribute WHERE attrelid = 'gen_jobs'::regclass AND attname = 'tenant'");

/**
 * Jobs of the large tenant that were claimed after the commit of the small one's, and before it. (Those claimed before the commit
 * had the free slots by right. Those of one claim are called together.)
 */
async function position(own, sample) {
  const body = JSON.stringify({ ...request(`small ${sample}`), standin: { latency_ms: 40 } });
  const id = await own.db.value("INSERT INTO gen_jobs (server, request, tenant) VALUES ('bench', $1, $2) RETURNING id", [body, `small ${sample}`]);
  const committed = await own.db.value('SELECT clock_timestamp()::text');
  await until('the small tenant has its turn', () => own.db.value("SELECT state <> 'queued' FROM gen_jobs WHERE id = $1", [id]), { every: 50, within: 60 });
  return own.db.value(`SELECT count(*) FROM gen_jobs large, gen_jobs small WHERE small.id = $1
    AND large.started_at > $2 AND large.started_at < small.started_at`, [id, committed]);
}

export async function measure() {
  const own = await Genjob.start('tenant_genjob', { max_in_flight: slots, paused: 'on' });
  if (!(await hasTenants(own))) {
    addRow({ ...goal, genjob: 'no tenants', met: false });
    return own.stop();
  }
  await reset();
  // of different lengths, so that one slot becomes free at a time
  await own.enqueue(backlog, { columns: { tenant: "'large'", request: `${requestSql('i')} || jsonb_build_object('standin', jsonb_build_object('latency_ms', 30 + i % 41))` } });
  await own.resume();
  await sleep(1000);
  const positions = [];
  for (let sample = 0; sample < samples; sample++)
    positions.push(await position(own, sample));
  await own.stop();
  keep('tenant', { positions });
  const usual = quantile(positions, 0.95); // a claim that is under way at the commit does not know of it
  addRow({ ...goal, genjob: `p50 ${median(positions)}, p95 ${usual}, at most ${Math.max(...positions)}`, met: usual <= 1 });
  return undefined;
}
