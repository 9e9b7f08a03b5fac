// How long one tenant's first job waits behind another's hundred thousand: counted in calls that the server gets before it.
import { Genjob } from '../lib/genjob.mjs';
import { figure, median, sleep, until } from '../lib/numbers.mjs';
import { addRow, keep } from '../lib/report.mjs';
import { arrivals, request, requestSql, reset } from '../lib/standin.mjs';

export const title = 'a tenant whose job comes after all of another\'s';

const backlog = process.env.LONG ? 1000000 : 100000;
const samples = process.env.LONG ? 100 : 20;
const slots = 8;
const what = `first job of a tenant behind ${figure(backlog)} of another's: calls before it`;
const goal = { goal: '≤ 1', what };

const hasTenants = (own) => own.db.value("SELECT count(*) = 1 FROM pg_attribute WHERE attrelid = 'gen_jobs'::regclass AND attname = 'tenant'");

/** The number of a job of the large tenant, as it stands in its request. */
const numberOf = (call) => Number(/job (\d+)/.exec(call.body)?.[1] ?? 0);

/**
 * Calls of the large tenant that came before the small one's although they were claimed after its commit. (Those claimed
 * before had the free slots by right, and may still be on their way.)
 */
async function position(own, sample) {
  const body = JSON.stringify({ ...request(`small ${sample}`), standin: { latency_ms: 40 } });
  await own.db.run("INSERT INTO gen_jobs (server, request, tenant) VALUES ('bench', $1, $2)", [body, `small ${sample}`]);
  const committed = await own.db.value('SELECT clock_timestamp()::text');
  let before;
  await until('the small tenant has its turn', async () => {
    const calls = await arrivals(1000);
    const at = calls.findIndex((call) => call.body.includes(`job small ${sample}"`));
    before = calls.slice(0, at);
    return at >= 0;
  }, { every: 50, within: 60 });
  return own.db.value('SELECT count(*) FROM gen_jobs WHERE id = ANY ($1) AND started_at > $2', [before.map(numberOf), committed]);
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
  const most = Math.max(...positions);
  addRow({ ...goal, genjob: `${median(positions)} (at most ${most})`, met: most <= 1 });
  return undefined;
}
