// How long a job of a good server waits while another server means harm, of each kind that takes most of the
// dispatcher's time, beside a quiet day.
import { existsSync, readFileSync } from 'node:fs';
import { Genjob } from '../lib/genjob.mjs';
import { listen } from '../lib/listener.mjs';
import { figure, until } from '../lib/numbers.mjs';
import { spawnKept } from '../lib/processes.mjs';
import { addRow, keep } from '../lib/report.mjs';
import { measureWaits } from '../lib/waits.mjs';

export const title = 'one job at a time, while another server means harm';

const samples = process.env.LONG ? 1000 : 150;
const kinds = ['endless_chunk_extension', 'chunk_extensions', 'tiny_chunks', 'endless_headers', 'folded_headers',
  'endless_trailers', 'hints_flood', 'endless_body', 'silent_after_much', 'reset_at_once'];

async function startHostile() {
  const file = 'hostile.ports';
  const server = spawnKept('./hostile', ['--die-with-parent', '--port-file', file], { stdio: 'ignore' });
  await until('hostile servers listen', async () => existsSync(file), { within: 20 });
  const ports = Object.fromEntries(readFileSync(file, 'utf8').trim().split('\n').map((line) => line.split(' ')));
  return { server, url: (kind) => `http://127.0.0.1:${ports[kind]}` };
}

export async function measure() {
  const listener = await listen();
  const hostile = await startHostile();
  const contestant = await Genjob.start('hostile_genjob', { url: listener.url });
  const quiet = Math.max(await measureWaits(contestant, listener, samples), 1);
  const found = { quiet };
  for (const kind of kinds) {
    await contestant.addServer(kind, { url: hostile.url(kind), max_in_flight: 50, max_attempts: 1, timeout: '3 s' });
    await contestant.db.run(`INSERT INTO gen_jobs (server, request) SELECT '${kind}', '{}' FROM generate_series(1, 2000)`);
    found[kind] = await measureWaits(contestant, listener, samples);
    await contestant.db.run("UPDATE gen_jobs SET state = 'cancelled' WHERE state IN ('queued', 'running')");
  }
  await contestant.stop();
  hostile.server.kill('SIGKILL');
  listener.close();
  keep('hostile', found);
  const [worst, value] = Object.entries(found).filter(([kind]) => kind !== 'quiet').sort((a, b) => b[1] - a[1])[0];
  addRow({ what: `pickup beside a hostile server, p99 of the worst (${worst})`, genjob: `${figure(value)} ms`,
    beside: `quiet: ${figure(quiet)} ms`, ratio: value / quiet, goal: '≤ 10 times, or 50 ms', met: value <= Math.max(10 * quiet, 50) });
}
