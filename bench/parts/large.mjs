// How long a job waits while answers of 20 MB arrive, are judged and are written, beside a quiet day.
import { randomBytes } from 'node:crypto';

import { Genjob } from '../lib/genjob.mjs';
import { listen } from '../lib/listener.mjs';
import { figure, seconds } from '../lib/numbers.mjs';
import { addRow, keep } from '../lib/report.mjs';
import { measureWaits } from '../lib/waits.mjs';

export const title = 'one job at a time, while answers of 20 MB arrive';

const samples = process.env.LONG ? 1000 : 200;
const bytes = 20000000;
const inFlight = 2;

const picture = () => JSON.stringify({ data: [{ b64_json: randomBytes((bytes * 3) / 4).toString('base64') }] });
const numbers = () => JSON.stringify({ data: Array.from({ length: bytes / 20 }, () => Math.random()) });

const shapes = [
  ['pictures', picture, { api: 'openai-images', path: '/v1/images/generations' }],
  ['numbers', numbers, {}],
];

export async function measure() {
  const listener = await listen();
  const contestant = await Genjob.start('large_genjob', { url: listener.url });
  const quiet = Math.max(await measureWaits(contestant, listener, samples), 1);
  const found = { quiet };
  for (const [name, answer, options] of shapes) {
    const large = await listen(answer());
    await contestant.addServer(name, { url: large.url, max_in_flight: inFlight, max_attempts: 1, ...options });
    await contestant.db.run(`INSERT INTO gen_jobs (server, request) SELECT '${name}', '{"prompt": "a"}' FROM generate_series(1, 1000)`);
    const began = seconds();
    const p99 = await measureWaits(contestant, listener, samples);
    const ended = await contestant.db.value(`SELECT count(*)::int FROM gen_jobs WHERE server = '${name}' AND state IN ('succeeded', 'failed')`);
    found[name] = { p99, rate: ended / (seconds() - began) };
    await contestant.db.run(`UPDATE gen_jobs SET state = 'cancelled' WHERE server = '${name}' AND state IN ('queued', 'running')`);
    large.close();
  }
  await contestant.stop();
  listener.close();
  keep('large', found);
  for (const [name] of shapes) {
    const { p99, rate } = found[name];
    addRow({ what: `pickup while ${figure(rate)} answers of 20 MB a second arrive (${name}), p99`, genjob: `${figure(p99)} ms`,
      beside: `quiet: ${figure(quiet)} ms`, ratio: p99 / quiet, goal: '≤ 10 times, or 20 ms', met: p99 <= Math.max(10 * quiet, 20) });
  }
}
