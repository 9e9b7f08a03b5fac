// How fast outputs of 1 MB come into an object store (Swift), in turns with two plain programs that put the same bytes, and
// what the dispatcher takes of memory while a large file passes through it.
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { Agent, request } from 'node:http';

import { settle } from '../lib/database.mjs';
import { Genjob } from '../lib/genjob.mjs';
import { listen } from '../lib/listener.mjs';
import { figure, median, medianRatio, seconds, sleep, sum, until } from '../lib/numbers.mjs';
import { cpuSeconds, endChild, family, ownMemory, spawnKept } from '../lib/processes.mjs';
import { addRow, keep } from '../lib/report.mjs';
import { signedHeaders } from '../lib/signature.mjs';

export const title = 'outputs of 1 MB, and a large file, into an object store';

const objects = process.env.LONG ? 400 : 120;
const bytes = 1000000;
const atOnce = 8;
const rounds = process.env.LONG ? 7 : 3;
const large = (process.env.LONG ? 5 : 1) * 2 ** 30;
const megabytes = (objects * bytes) / 1e6;

/** A server of test/aws, and the port at which it answers. */
async function startPython(name) {
  const folder = `${process.cwd()}/${name}`;
  mkdirSync(folder);
  const child = spawnKept('/usr/bin/python3', [`aws/${name}.py`, folder], { stdio: 'ignore' });
  await until(`${name} starts`, () => existsSync(`${folder}/port`), { within: 60 });
  return { child, url: `http://127.0.0.1:${readFileSync(`${folder}/port`, 'utf8')}` };
}

async function addStore(own, url) {
  await own.db.run(`CREATE SERVER store FOREIGN DATA WRAPPER genjob OPTIONS (api 's3', url '${url}', bucket 'pictures', max_in_flight '${atOnce}')`);
  await own.db.run("CREATE USER MAPPING FOR PUBLIC SERVER store OPTIONS (access_key_id 'test:tester', secret_access_key 'testing')");
}

const png = Buffer.concat([Buffer.from('89504e470d0a1a0a', 'hex'), randomBytes(bytes - 8)]);

/** Processor time since `before`, in seconds; 0 of a process that has ended, such as a writer that had nothing to do. */
function since(pid, before) {
  try { return cpuSeconds(pid) - before; } catch { return 0; }
}

/** What a turn gives: MB/s, and the processor time for 1 MB, in ms, of who puts and of the store. */
async function timed(turn, putters, store) {
  const pids = [await putters(), family(store.child.pid)];
  const before = pids.map((list) => list.map(cpuSeconds));
  const took = await turn();
  const [own, of] = pids.map((list, i) => (sum(list.map((pid, n) => since(pid, before[i][n]))) * 1000) / megabytes);
  return { rate: megabytes / took, own, store: of };
}

const itself = () => [process.pid];

async function genjobTurn(own, store) {
  await own.clear();
  await settle();
  await own.enqueue(objects);
  const workers = async () => (await own.db.rows("SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'genjob %' AND datname = current_database()")).map((row) => row.pid);
  const turn = await timed(() => own.drain(objects), workers, store);
  await own.pause();
  const stored = await own.db.value('SELECT sum(bytes)::float8 FROM gen_outputs WHERE data IS NULL');
  if (stored !== objects * bytes)
    throw new Error(`${stored} bytes are in the store`);
  return turn;
}

/** The status of a PUT of the picture. */
function put(agent, url, headers) {
  return new Promise((resolve, reject) => {
    const call = request(url, { agent, method: 'PUT', headers: { 'Content-Type': 'image/png', 'Content-Length': png.length, ...headers } }, (reply) => {
      reply.resume();
      reply.on('end', () => resolve(reply.statusCode));
    });
    call.on('error', reject);
    call.end(png);
  });
}

/** As many calls at once as genjob may make; seconds. headersFor: what a URL's PUT has besides. */
async function putAll(urls, headersFor) {
  const agent = new Agent({ keepAlive: true, maxSockets: atOnce });
  const began = seconds();
  const worker = async () => {
    for (let url = urls.pop(); url; url = urls.pop()) {
      const status = await put(agent, url, headersFor(url));
      if (status !== 200)
        throw new Error(`the store answers ${status}`);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
  const took = seconds() - began;
  agent.destroy();
  return took;
}

/** Puts to links that are made beforehand: nobody computes a digest, neither this program nor the store. */
async function linksTurn(own, store, round) {
  const rows = await own.db.rows(`SELECT genjob.presign_put('store', 'links/${round}/' || i) AS link FROM generate_series(1, ${objects}) i`);
  await settle();
  return timed(() => putAll(rows.map((row) => row.link), () => ({})), itself, store);
}

/** Signs each PUT with the digest of its bytes, as AWS's SDKs do over http, and genjob; the store checks it. */
async function signedTurn(store, round) {
  const urls = Array.from({ length: objects }, (_, i) => `${store.url}/pictures/signed/${round}/${i}`);
  const keys = { id: 'test:tester', secret: 'testing', region: 'us-east-1' };
  await settle();
  return timed(() => putAll(urls, (url) => signedHeaders(url, png, keys)), itself, store);
}

const ofTurns = (turns, name) => turns.map((turn) => turn[name]);

function addRateRow(turns, name, how, { goal, isMet } = {}) {
  const [own, plain] = [turns.genjob, turns[name]].map((list) => ofTurns(list, 'rate'));
  const ratio = medianRatio(own, plain);
  addRow({ what: 'outputs of 1 MB into an object store', genjob: `${figure(median(own))} MB/s`,
    beside: `a plain program, ${atOnce} PUTs at once ${how}: ${figure(median(plain))} MB/s`, ratio, goal, met: isMet ? isMet(ratio) : null });
}

function addTimeRow(turns) {
  const of = (name) => ['own', 'store'].map((part) => figure(median(ofTurns(turns[name], part)))).join(' + ');
  addRow({ what: 'processor time for 1 MB, with that of the store', genjob: `${of('genjob')} ms`,
    beside: `links ${of('links')} ms, signed ${of('signed')} ms`, met: null });
}

async function measureRate(store) {
  const listener = await listen(JSON.stringify({ created: 1700000000, data: [{ b64_json: png.toString('base64') }] }));
  const own = await Genjob.start('store_genjob', { api: 'openai-images', path: '/v1/images/generations', url: listener.url, max_in_flight: atOnce, store: 'store', paused: 'on' });
  await addStore(own, store.url);
  await genjobTurn(own, store);
  const turns = { genjob: [], links: [], signed: [] };
  for (let round = 0; round < rounds; round++) {
    turns.genjob.push(await genjobTurn(own, store));
    turns.links.push(await linksTurn(own, store, round));
    turns.signed.push(await signedTurn(store, round));
  }
  await own.stop();
  listener.close();
  keep('store', turns);
  addRateRow(turns, 'links', 'to links made beforehand', { goal: '≥ 0.8', isMet: (ratio) => ratio >= 0.8 });
  addRateRow(turns, 'signed', 'signed with the digest of the bytes');
  addTimeRow(turns);
}

async function measureMemory(store) {
  const files = await startPython('files');
  const listener = await listen(JSON.stringify({ url: `${files.url}/large/${large}.png` }));
  const own = await Genjob.start('store_large', { url: listener.url, path: '/', output: '/url', encoding: 'url', store: 'store', timeout: '1 h' });
  await addStore(own, store.url);
  const pid = await own.pid();
  await sleep(1000);
  const before = ownMemory(pid);
  const began = seconds();
  await own.db.run("INSERT INTO gen_jobs (server, request) VALUES ('bench', '{}')");
  const seen = [];
  await until('the file is in the store', async () => {
    seen.push(ownMemory(pid) - before);
    const [row] = await own.db.rows('SELECT state, error FROM gen_jobs');
    if (row.state === 'failed')
      throw new Error(row.error);
    return row.state === 'succeeded';
  }, { every: 100, within: 3600 });
  const took = seconds() - began;
  const stored = await own.db.value('SELECT bytes::float8 FROM gen_outputs WHERE data IS NULL');
  if (stored !== large)
    throw new Error(`${stored} bytes are in the store`);
  await own.stop();
  listener.close();
  await endChild(files.child);
  const half = seen.slice(seen.length >> 1);
  keep('store', { memory: { most: Math.max(...seen), firstHalf: sum(seen.slice(0, seen.length >> 1)) / (seen.length >> 1), secondHalf: sum(half) / half.length, took } });
  const most = Math.max(...seen) / 1e6;
  addRow({ what: `memory while a file of ${large / 2 ** 30} GB passes into the store`, genjob: `${figure(most)} MB`,
    beside: `${figure(large / 1e6 / took)} MB/s`, goal: '≤ 100 MB', met: most <= 100 });
}

export async function measure() {
  const store = await startPython('objectstore');
  await measureRate(store);
  await measureMemory(store);
  await endChild(store.child);
}
