#!/usr/bin/env node
// Two jobs that meet with something: the dispatcher is killed while one runs, and another is cancelled. Says what happens.
// usage: node trouble.mjs SEEN  ends with 0 if the first was asked for once and brought its picture, and the second was cancelled at
// the server too. Adds to what stands in the file SEEN which jobs these are: killed, cancelled (ids)
import { readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { Psql } from './psql.mjs';

const PATIENCE_MS = 2 * 60_000;
const LOOK_MS = 50;

const began = Date.now();
const tell = (id, text) => console.log(`${((Date.now() - began) / 1000).toFixed(1).padStart(6)} s  job ${id}  ${text}`);

let asked = null;

/** Asks one psql, and after a crash has ended it, the next; null while there is no database. */
async function ask(query) {
  asked ??= new Psql({ quiet: true });
  try {
    return await asked.rows(query);
  } catch {
    asked.close();
    asked = null;
    return null;
  }
}

/** The first row of a query for which a condition holds. */
async function until(what, query, holds) {
  while (Date.now() - began < PATIENCE_MS) {
    const row = (await ask(query))?.[0];
    if (row && holds(row))
      return row;
    await pause(LOOK_MS);
  }
  throw new Error(`waited in vain: ${what}`);
}

async function change(statement) {
  const psql = new Psql();
  try {
    return await psql.change(statement);
  } finally {
    psql.close();
  }
}

async function enqueue(prompt, seed) {
  const request = JSON.stringify({ prompt, width: 512, height: 320, seed });
  const [{ id }] = await change(`INSERT INTO gen_jobs (server, request) VALUES ('painter', '${request}') RETURNING id`);
  return id;
}

const job = (id) => `
  SELECT j.state, j.attempt, j.error, j.remote_id, j.remote IS NULL AS told, a.progress,
         (SELECT pid FROM genjob.workers WHERE database = current_database()) AS dispatcher
    FROM gen_jobs j LEFT JOIN genjob.activity a ON a.job_id = j.id WHERE j.id = ${id}`;

const isUnderWay = ({ state, remote_id, progress }) => state === 'running' && remote_id && progress > 0;

/** A job that is under way, and its row then. One that has ended before anybody looked is deleted, and another follows. */
async function start(prompt, seed) {
  for (let tries = 0; tries < 10; tries++) {
    const id = await enqueue(prompt, seed);
    const row = await until('the job to run', job(id), (seen) => isUnderWay(seen) || seen.state === 'succeeded');
    if (row.state === 'running')
      return { id, row };
    await change(`DELETE FROM gen_jobs WHERE id = ${id} RETURNING id`);
  }
  throw new Error('no job was seen under way');
}

/** A prediction outlives the process that asked for it: its name is in the row, and whoever comes next asks about it. */
async function kill() {
  const { id, row: before } = await start('a lighthouse in a storm at night, while its dispatcher is killed', 4);
  tell(id, `is at ${Math.floor(100 * before.progress)} %. SIGKILL to the dispatcher, process ${before.dispatcher}: PostgreSQL restarts`);
  process.kill(before.dispatcher, 'SIGKILL');
  const back = await until('a dispatcher', job(id), ({ dispatcher }) => dispatcher && dispatcher !== before.dispatcher);
  tell(id, `process ${back.dispatcher} has taken it up, and asks about it by the name that the server gave it`);
  const after = await until('the job to end', job(id), ({ state }) => state !== 'running');
  if (after.state !== 'succeeded' || after.attempt !== 1)
    throw new Error(`job ${id} is ${after.state} after ${after.attempt} attempts: ${after.error}`);
  tell(id, 'succeeded, and was asked for once');
  return id;
}

async function cancel() {
  const { id } = await start('a forest at dawn that nobody wants any more', 5);
  await ask(`SELECT genjob.cancel(${id})`);
  const after = await until('the server to confirm', job(id), ({ state, told }) => state === 'cancelled' && told);
  tell(id, `cancelled in the midst: ${after.error}`);
  return id;
}

for (const [name, status] of [['SIGINT', 130], ['SIGTERM', 143]])
  process.on(name, () => process.exit(status));
try {
  const seen = JSON.parse(readFileSync(process.argv[2], 'utf8'));
  const troubles = { killed: await kill(), cancelled: await cancel() };
  writeFileSync(process.argv[2], JSON.stringify({ ...seen, ...troubles }));
} catch (error) {
  console.error(`trouble: ${error.message}`);
  process.exitCode = 1;
} finally {
  asked?.close();
}
