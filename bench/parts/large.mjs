// How long a job waits while answers of 20 MB arrive, are judged and are written, beside a quiet day.
import { randomBytes } from 'node:crypto';

import { connect } from '../lib/database.mjs';
import { Genjob } from '../lib/genjob.mjs';
import { listen } from '../lib/listener.mjs';
import { figure, quantile, seconds, sleep } from '../lib/numbers.mjs';
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

/** Writes pictures that are in the table once more, so many a second, until done() is true. */
async function writePictures(database, rate, done) {
  const db = await connect(database);
  for (let next = seconds(); !done(); next += 1 / rate) {
    await db.run('INSERT INTO limit_outputs SELECT * FROM limit_picture');
    await sleep(1000 * Math.max(next + 1 / rate - seconds(), 0));
  }
  await db.end();
}

/** What the disk allows: the p99, ms, of commits of a row in SQL, while SQL writes as many pictures a second. */
async function measureCommits(contestant, rate) {
  await contestant.db.run(`CREATE TABLE limit_picture (LIKE gen_outputs INCLUDING STORAGE);
    CREATE TABLE limit_outputs (LIKE gen_outputs INCLUDING STORAGE);
    INSERT INTO limit_picture SELECT * FROM gen_outputs ORDER BY bytes DESC LIMIT 1;
    CREATE TABLE limit_rows (request text)`);
  let isDone = false;
  const writing = Array.from({ length: inFlight }, () => writePictures(contestant.database, rate / inFlight, () => isDone));
  const waits = [];
  for (let i = -10; i < samples; i++) {
    const began = performance.now();
    await contestant.db.run("INSERT INTO limit_rows SELECT repeat('a', 300)");
    if (i >= 0)
      waits.push(performance.now() - began);
    await sleep(5 + Math.random() * 10);
  }
  isDone = true;
  await Promise.all(writing);
  return quantile(waits, 0.99);
}

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
  const commit = await measureCommits(contestant, found.pictures.rate);
  await contestant.stop();
  listener.close();
  keep('large', { ...found, commit });
  for (const [name] of shapes) {
    const { p99, rate } = found[name];
    const limit = name === 'pictures' ? `; a commit in SQL while SQL writes them: ${figure(commit)} ms` : '';
    addRow({ what: `pickup while ${figure(rate)} answers of 20 MB a second arrive (${name}), p99`, genjob: `${figure(p99)} ms`,
      beside: `quiet: ${figure(quiet)} ms${limit}`, ratio: p99 / quiet, goal: '≤ 10 times, or 20 ms', met: p99 <= Math.max(10 * quiet, 20) });
  }
}
