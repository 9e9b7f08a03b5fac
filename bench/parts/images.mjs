// How fast pictures of 1 MB come into the table, in turns with COPY of the same rows.
import { randomBytes } from 'node:crypto';

import { settle } from '../lib/database.mjs';
import { Genjob } from '../lib/genjob.mjs';
import { listen } from '../lib/listener.mjs';
import { figure, median, medianRatio, seconds } from '../lib/numbers.mjs';
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

async function genjobTurn(own) {
  await own.clear();
  await settle();
  await own.enqueue(images);
  const took = await own.drain(images);
  await own.pause();
  const stored = await own.db.value('SELECT sum(bytes)::float8 FROM gen_outputs');
  if (stored !== images * bytes)
    throw new Error(`${stored} bytes of pictures are in the table`);
  return megabytes / took;
}

async function copyTurn(own, file) {
  await own.db.run('TRUNCATE limit_outputs');
  await settle();
  const began = seconds();
  await own.db.run(`COPY limit_outputs FROM '${file}' (FORMAT binary)`);
  return megabytes / (seconds() - began);
}

export async function measure() {
  const listener = await listen(answer());
  const own = await Genjob.start('images_genjob', { api: 'openai-images', path: '/v1/images/generations', url: listener.url, max_in_flight: 8, paused: 'on' });
  const file = `${process.cwd()}/images.bin`;
  await own.db.run('CREATE TABLE limit_outputs (LIKE gen_outputs INCLUDING ALL)');
  await genjobTurn(own); // warm, and what COPY is to bring
  await own.db.run(`COPY gen_outputs TO '${file}' (FORMAT binary)`);
  const rates = { genjob: [], copy: [] };
  for (let round = 0; round < rounds; round++) {
    rates.genjob.push(await genjobTurn(own));
    rates.copy.push(await copyTurn(own, file));
  }
  await own.stop();
  listener.close();
  keep('images', rates);
  const ratio = medianRatio(rates.genjob, rates.copy);
  addRow({ what: 'pictures of 1 MB into the table', genjob: `${figure(median(rates.genjob))} MB/s`,
    beside: `COPY of the same rows: ${figure(median(rates.copy))} MB/s`, ratio, goal: '≥ 0.75', met: ratio >= 0.75 });
}
