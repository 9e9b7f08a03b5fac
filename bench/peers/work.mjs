// What every worker in Node does with a job: POST it, and write the answer into PostgreSQL.
import pg from 'pg';
import { Pool } from 'undici';

const settings = JSON.parse(process.env.PEER);
const server = new Pool(process.env.BENCH_STANDIN, { connections: settings.inFlight, headersTimeout: 0, bodyTimeout: 0 });
export const database = new pg.Pool({ database: settings.database, max: settings.connections ?? 10 });
export { settings };
database.on('error', (error) => process.send({ error: String(error) }));
database.on('connect', (client) => client.on('error', () => {}));

/** The answer's body. */
export async function call(body) {
  const { statusCode, body: answer } = await server.request({
    path: '/v1/chat/completions', method: 'POST', headers: { 'content-type': 'application/json' }, body,
  });
  const text = await answer.text();
  if (statusCode !== 200)
    throw new Error(`status ${statusCode}: ${text}`);
  return text;
}

/** Resolves when the answer is committed, by itself. */
export function saveOne(id, answer) {
  return database.query({ name: 'save', text: 'INSERT INTO results (job_id, result) VALUES ($1, $2)', values: [id, answer] });
}

let waiting = [];
let flushing = 0;

async function flush() {
  const batch = waiting.splice(0, 500);
  flushing++;
  try {
    await database.query({
      name: 'save many',
      text: 'INSERT INTO results (job_id, result) SELECT * FROM unnest($1::bigint[], $2::jsonb[])',
      values: [batch.map((answer) => answer.id), batch.map((answer) => answer.text)],
    });
    batch.forEach((answer) => answer.resolve());
  } catch (error) {
    batch.forEach((answer) => answer.reject(error));
  }
  flushing--;
  if (waiting.length > 0)
    flush();
}

/** The same together with all that came meanwhile: two transactions at a time, each takes what is there. */
export function saveBatched(id, text) {
  return new Promise((resolve, reject) => {
    waiting.push({ id, text, resolve, reject });
    if (flushing < 2)
      setImmediate(() => waiting.length > 0 && flushing < 2 && flush());
  });
}

export const save = settings.batched ? saveBatched : saveOne;

/** Opens what a worker that has run for a while has open. */
export async function warmUp() {
  await Promise.all(Array.from({ length: 4 }, () => database.query('SELECT 1')));
}

/** Tells the measuring process when so many jobs are done. */
export class Countdown {
  #left = 0;
  start(n) { this.#left = n; }
  done() {
    if (--this.#left === 0)
      process.send({ done: true });
  }
}

process.on('disconnect', () => process.exit());
