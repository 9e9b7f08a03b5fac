#!/usr/bin/env node
// Shows the jobs moving until all have ended: a table redrawn in place on a terminal, else a line for each change. How far a
// job is is what genjob.activity tells.
// usage: node live.mjs [SEEN]  ends with 0 when all have ended, however they did; writes into the file SEEN when each was first
// seen to get on (id: seconds since 1970)
import { writeFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { Psql } from './psql.mjs';

const PATIENCE_MS = 10 * 60_000;
const REDRAW_MS = 120;
const ENDED = ['succeeded', 'failed', 'cancelled'];

const terminal = process.stdout.isTTY === true && process.env.TERM !== 'dumb';
const columns = process.stdout.columns || 100;
const BAR_WIDTH = columns < 110 ? 12 : 20;
const unicode = /utf-?8/i.test(process.env.LC_ALL || process.env.LC_CTYPE || process.env.LANG || '');
const [FULL, EMPTY] = unicode ? ['█', '░'] : ['#', '.'];
const COLOURS = { dim: 2, bold: 1, red: 31, green: 32, yellow: 33, cyan: 36 };
const STATE_COLOURS = { queued: 'dim', waiting: 'dim', running: 'cyan', succeeded: 'green', failed: 'red', cancelled: 'yellow' };

const JOBS = `
  SELECT j.id, j.server, j.request->>'prompt' AS what, j.state, j.attempt, j.error,
         extract(epoch FROM coalesce(j.finished_at, clock_timestamp()) - j.started_at)::float8 AS elapsed,
         a.progress, extract(epoch FROM clock_timestamp())::float8 AS now
    FROM gen_jobs j LEFT JOIN genjob.activity a ON a.job_id = j.id
   ORDER BY j.id`;

const paint = (colour, text) => terminal && !process.env.NO_COLOR ? `\x1b[${COLOURS[colour]}m${text}\x1b[0m` : text;
const seconds = (value) => `${value.toFixed(1)} s`;

async function look(psql) {
  const jobs = await psql.rows(JOBS);
  for (const job of jobs)
    job.progress = job.state === 'succeeded' ? 1 : job.state === 'running' ? job.progress : null;
  return jobs;
}

/** A bar; a light that wanders where nobody knows how far it is: before the server was asked for the first time. */
function bar(job, tick) {
  if (job.progress !== null) {
    const full = Math.round(job.progress * BAR_WIDTH);
    return `${FULL.repeat(full)}${EMPTY.repeat(BAR_WIDTH - full)} ${String(Math.floor(job.progress * 100)).padStart(3)} %`;
  }
  if (job.state !== 'running')
    return ' '.repeat(BAR_WIDTH + 6);
  const at = Math.abs((tick % (2 * BAR_WIDTH - 2)) - BAR_WIDTH + 1);
  return `${EMPTY.repeat(at)}${FULL}${EMPTY.repeat(BAR_WIDTH - 1 - at)}      `;
}

function summary(jobs, since) {
  const count = (...states) => jobs.filter(({ state }) => states.includes(state)).length;
  const failed = count('failed', 'cancelled');
  return `${jobs.length} jobs: ${count('queued', 'waiting')} queued, ${count('running')} in flight, ${count('succeeded')} done` +
    `${failed ? `, ${failed} not done` : ''}, ${seconds((Date.now() - since) / 1000)}`;
}

function table(jobs, since, tick) {
  const room = Math.max(8, Math.min(40, columns - BAR_WIDTH - 57));
  const cut = (text) => (text.length > room ? `${text.slice(0, room - 3)}...` : text).padEnd(room);
  const heading = ['job'.padStart(4), 'server'.padEnd(9), 'what'.padEnd(room), 'state'.padEnd(10), 'progress'.padEnd(BAR_WIDTH + 6),
    'attempt', 'elapsed'.padStart(8)];
  const lines = jobs.map((job) => [
    String(job.id).padStart(4),
    job.server.padEnd(9),
    cut(job.what ?? ''),
    paint(STATE_COLOURS[job.state], job.state.padEnd(10)),
    paint(STATE_COLOURS[job.state], bar(job, tick)),
    String(job.attempt || '').padStart(7),
    (job.elapsed === null ? '' : seconds(job.elapsed)).padStart(8),
  ].join('  '));
  return ['', paint('bold', heading.join('  ')), ...lines, '', summary(jobs, since), ''];
}

/** Draws over what it drew before. Lines are not wrapped, so that as many are drawn as are counted. */
function makeScreen() {
  let drawn = 0;
  process.stdout.write('\x1b[?25l\x1b[?7l');
  process.on('exit', () => process.stdout.write('\x1b[?25h\x1b[?7h'));
  return (lines) => {
    process.stdout.write(`${drawn ? `\x1b[${drawn}A\r` : ''}${lines.map((line) => `${line}\x1b[K\n`).join('')}\x1b[J`);
    drawn = lines.length;
  };
}

/** Prints what has changed since the last look: states, and progress by a tenth or more. */
function makeLog(since) {
  const known = new Map();
  return (jobs) => {
    for (const job of jobs) {
      const state = `${job.state} ${job.attempt}`;
      const told = known.get(job.id) ?? {};
      const isFurther = job.state === 'running' && job.progress !== null && job.progress >= (told.progress ?? 0) + 0.1;
      if (told.state === state && !isFurther)
        continue;
      known.set(job.id, { state, progress: job.progress ?? 0 });
      const after = `${((Date.now() - since) / 1000).toFixed(1).padStart(6)} s`;
      const how = job.state === 'succeeded' ? ` in ${seconds(job.elapsed)}` : isFurther ? `, ${Math.floor(job.progress * 100)} %` : '';
      const attempt = job.attempt > 1 ? ` (attempt ${job.attempt})` : '';
      console.log(`${after}  job ${job.id}  ${job.server.padEnd(9)}  ${job.state}${how}${attempt}: ${job.what}`);
    }
  };
}

async function watch() {
  const psql = new Psql();
  const since = Date.now();
  const screen = terminal ? makeScreen() : null;
  const log = terminal ? null : makeLog(since);
  const seen = {};
  for (let tick = 0; Date.now() - since < PATIENCE_MS; tick++) {
    const jobs = await look(psql);
    screen?.(table(jobs, since, tick));
    log?.(jobs);
    for (const job of jobs)
      if (job.state === 'running' && job.progress > 0)
        seen[job.id] ??= job.now;
    if (jobs.every(({ state }) => ENDED.includes(state))) {
      if (!terminal)
        console.log(summary(jobs, since));
      psql.close();
      if (process.argv[2])
        writeFileSync(process.argv[2], JSON.stringify(seen));
      return;
    }
    await pause(REDRAW_MS);
  }
  throw new Error(`the jobs have not ended within ${PATIENCE_MS / 60_000} minutes`);
}

for (const [name, status] of [['SIGINT', 130], ['SIGTERM', 143]])
  process.on(name, () => process.exit(status));
try {
  await watch();
} catch (error) {
  console.error(`live: ${error.message}`);
  process.exit(1);
}
