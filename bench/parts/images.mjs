// How fast pictures of 1 MB come into the table, in turns with COPY of the same rows.
import { randomBytes } from 'node:crypto';

import { settle } from '../lib/database.mjs';
import { Genjob } from '../lib/genjob.mjs';
import { listen } from '../lib/listener.mjs';
import { figure, median, medianRatio, seconds } from '../lib/numbers.mjs';
import { cpuSeconds } from '../lib/processes.mjs';
import { addRow, keep } from '../lib/report.mjs';

export const title = 'pictures of 1 MB, as base64 in JSON, into the table';

const images = 200;
const bytes = 1000000;
const rounds = process.env.LONG ? 7 : 3;
const megabytes = (images * bytes) / 1e6;

/** The answer of an images API. Made beforehand: drawing takes longer than storing. */
function answer() {
  const png = Buffer.concat([Buffer.from('89504e470d0a1a0a', 'hex'), randomBytes(bytes - 8)]);
  return JSON.stringify({ created: 1700000000, data: [{ b64_json: png.toString('base64') }] });
}

/** Processor time so far, in seconds, of the processes that do genjob's work in this database. */
async function cpuOfGenjob(own) {
  const found = await own.db.rows("SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND backend_type LIKE 'genjob %'");
  return found.reduce((sum, { pid }) => sum + cpuSeconds(pid), 0);
}

/** What one MB took: in MB/s, and in ms of processor time. */
const figures = (took, cpu) => ({ rate: megabytes / took, cpu: (cpu * 1000) / megabytes });

async function genjobTurn(own) {
  await own.clear();
  await settle();
  await own.enqueue(images);
  const before = await cpuOfGenjob(own);
  const took = await own.drain(images);
  const cpu = (await cpuOfGenjob(own)) - before;
  await own.pause();
  const stored = await own.db.value('SELECT sum(bytes)::float8 FROM gen_outputs');
  if (stored !== images * bytes)
    throw new Error(`${stored} bytes of pictures are in the table`);
  return figures(took, cpu);
}

async function copyTurn(own, file) {
  await own.db.run('TRUNCATE limit_outputs');
  await settle();
  const pid = await own.db.value('SELECT pg_backend_pid()');
  const before = cpuSeconds(pid);
  const began = seconds();
  await own.db.run(`COPY limit_outputs FROM '${file}' (FORMAT binary)`);
  return figures(seconds() - began, cpuSeconds(pid) - before);
}

export async function measure() {
  const listener = await listen(answer());
  const own = await Genjob.start('images_genjob', { api: 'openai-images', path: '/v1/images/generations', url: listener.url, max_in_flight: 8, paused: 'on' });
  const file = `${process.cwd()}/images.bin`;
  await own.db.run('CREATE TABLE limit_outputs (LIKE gen_outputs INCLUDING ALL)');
  await genjobTurn(own); // warm, and what COPY is to bring
  await own.db.run(`COPY gen_outputs TO '${file}' (FORMAT binary)`);
  const turns = { genjob: [], copy: [] };
  for (let round = 0; round < rounds; round++) {
    turns.genjob.push(await genjobTurn(own));
    turns.copy.push(await copyTurn(own, file));
  }
  await own.stop();
  listener.close();
  keep('images', turns);
  const all = (who, figure) => turns[who].map((turn) => turn[figure]);
  const ratio = medianRatio(all('genjob', 'rate'), all('copy', 'rate'));
  addRow({ what: 'pictures of 1 MB into the table', genjob: `${figure(median(all('genjob', 'rate')))} MB/s`,
    beside: `COPY of the same rows: ${figure(median(all('copy', 'rate')))} MB/s`, ratio, goal: '≥ 0.75', met: ratio >= 0.75 });
  addRow({ what: 'processor time for 1 MB of them', genjob: `${figure(median(all('genjob', 'cpu')))} ms`,
    beside: `COPY of the same rows: ${figure(median(all('copy', 'cpu')))} ms`, ratio: medianRatio(all('genjob', 'cpu'), all('copy', 'cpu')) });
}
