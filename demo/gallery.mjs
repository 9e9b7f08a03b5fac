#!/usr/bin/env node
// Takes the pictures out of the database, writes them beside an HTML page of before and after, and checks them.
// usage: node gallery.mjs FOLDER [SEEN]  ends with 0 if every job but the cancelled one brought a picture twice as large as its source
// SEEN is what live.mjs wrote of each job's first progress, and trouble.mjs of the two jobs that met with something.
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { Psql } from './psql.mjs';
import { decodePicture, encodePicture } from './server/codec.mjs';
import { drawScene } from './server/scene.mjs';

/** A detail is this part of a picture's width, and half of it of its height. */
const DETAIL = 1 / 3;

const EXTENSIONS = { 'image/png': 'png', 'image/jpeg': 'jpg' };

const JOBS = `
  SELECT j.id, j.server, j.request, j.priority, j.state, j.attempt, j.error,
         extract(epoch FROM j.created_at)::float8 AS queued,
         extract(epoch FROM j.started_at)::float8 AS claimed,
         extract(epoch FROM j.finished_at)::float8 AS stored,
         encode(j.inputs[1], 'base64') AS input,
         o.content_type, o.bytes, encode(o.sha256, 'hex') AS sha256, encode(o.data, 'base64') AS output,
         o.url, genjob.presign(o, '1 day') AS link
    FROM gen_jobs j LEFT JOIN gen_outputs o ON o.job_id = j.id AND o.ordinal = 1
   ORDER BY j.id`;

class Unfit extends Error {}

/** The picture that the network was given: the photograph, or the drawing that the model server made of the prompt. */
function source({ input, request }) {
  if (input) {
    const bytes = Buffer.from(input, 'base64');
    return { bytes, ...decodePicture(bytes) };
  }
  const { width, height } = request;
  const drawing = drawScene({ prompt: request.prompt, seed: request.seed, width: width / 2, height: height / 2 });
  return { bytes: encodePicture(drawing), ...drawing };
}

/** The bytes of an output: those in the table, or those that a browser would get by its link. */
async function bytesOf({ output, link }) {
  if (!link)
    return Buffer.from(output, 'base64');
  const reply = await fetch(link);
  if (!reply.ok)
    throw new Unfit(`its link answers ${reply.status}`);
  return Buffer.from(await reply.arrayBuffer());
}

/** The job's picture, or an Unfit that says what is wrong. */
async function result(job, before) {
  if (job.state !== 'succeeded')
    throw new Unfit(`${job.state}: ${job.error}`);
  if (!job.output && !job.link)
    throw new Unfit('it succeeded, but there is no row in gen_outputs');
  if (!(job.content_type in EXTENSIONS))
    throw new Unfit(`its output is ${job.content_type}, not a picture`);
  const bytes = await bytesOf(job);
  if (bytes.length !== job.bytes)
    throw new Unfit(`its output has ${bytes.length} bytes, and gen_outputs says ${job.bytes}`);
  const picture = decodePicture(bytes);
  if (picture.width !== 2 * before.width || picture.height !== 2 * before.height)
    throw new Unfit(`its picture is ${picture.width} x ${picture.height}, not twice ${before.width} x ${before.height}`);
  return { bytes, width: picture.width, height: picture.height };
}

async function writePictures(folder, job) {
  const before = source(job);
  const after = await result(job, before);
  const files = {
    before: `job-${job.id}-before.${before.bytes[0] === 0xff ? 'jpg' : 'png'}`,
    after: `job-${job.id}-after.${EXTENSIONS[job.content_type]}`,
  };
  writeFileSync(join(folder, files.before), before.bytes);
  writeFileSync(join(folder, files.after), after.bytes);
  return { job, files, before, after };
}

/** Where the detail with the most contrast begins, as shares of what is left of width and height: CSS's background-position. */
function busiestDetail({ width, height, rgb }) {
  const [detailWidth, detailHeight] = [Math.floor(width * DETAIL), Math.floor((height * DETAIL) / 2)];
  const step = Math.ceil(width / 40);
  let best = { contrast: -1, x: 0.5, y: 0.5 };
  for (let top = 0; top + detailHeight < height; top += step)
    for (let left = 0; left + detailWidth < width; left += step) {
      let contrast = 0;
      for (let y = top; y < top + detailHeight; y++)
        for (let x = left; x < left + detailWidth; x++) {
          const at = (y * width + x) * 3 + 1;
          contrast += Math.abs(rgb[at] - rgb[at + 3]) + Math.abs(rgb[at] - rgb[at + width * 3]);
        }
      if (contrast > best.contrast)
        best = { contrast, x: left / (width - detailWidth), y: top / (height - detailHeight) };
    }
  return best;
}

const percent = (share) => `${(100 * share).toFixed(1)}%`;
const escape = (text) => String(text).replace(/[&<>"]/g, (sign) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[sign]);

const seconds = (value) => `${value.toFixed(1)} s`;

/** What the picture shows: the prompt up to its first comma. */
const subject = ({ request }) => request.prompt.split(',')[0];

/** The INSERT that makes such a row. */
function statement({ server, request, priority, input }) {
  const quote = (text) => `'${String(text).replaceAll("'", "''")}'`;
  const columns = { server: quote(server), request: quote(JSON.stringify(request).replace(/([:,])"/g, '$1 "').replace(/":(?=\S)/g, '": ')) };
  if (input)
    columns.inputs = 'ARRAY[$1]';
  if (priority)
    columns.priority = priority;
  return `INSERT INTO gen_jobs (${Object.keys(columns).join(', ')})\nVALUES (${Object.values(columns).join(', ')});`;
}

/** When the job was where, from its INSERT on. */
function timeline(job, seen) {
  const steps = [['queued', job.queued], ['claimed', job.claimed]];
  if (seen >= job.claimed && seen < job.stored)
    steps.push(['first progress', seen]);
  steps.push([job.state === 'cancelled' ? 'cancelled' : 'stored', job.stored]);
  const share = (from, to) => (100 * (to - from) / (job.stored - job.queued)).toFixed(1);
  const text = steps.map(([name, at]) => `<li><b>${name}</b> ${seconds(at - job.queued)}</li>`).join('');
  const attempts = job.attempt === 1 ? '1 attempt' : `${job.attempt} attempts`;
  return `<div class="bar" role="img" aria-label="waited ${seconds(job.claimed - job.queued)}, ran ${seconds(job.stored - job.claimed)}">
      <span class="waited" style="width: ${share(job.queued, job.claimed)}%"></span><span class="ran"
        style="width: ${share(job.claimed, job.stored)}%"></span></div>
    <ol class="times">${text}<li>${attempts}</li></ol>`;
}

/** A job without a picture, since it was cancelled. */
function cancelledSection(job, seen) {
  return `
  <section>
    <h2>${escape(job.request.prompt)}</h2>
    <p>job ${job.id} through <code>${escape(job.server)}</code>, ${escape(job.state)} while it ran by
      <code>SELECT genjob.cancel(${job.id});</code> ${escape(job.error)}</p>
    ${timeline(job, seen[job.id])}
    <pre>${escape(statement(job))}</pre>
  </section>`;
}

function section({ job, files, before, after }, { [job.id]: began, killed }) {
  const what = escape(subject(job));
  const origin = job.input ? 'photograph from <code>inputs</code>' : 'drawn from the prompt by the model server';
  const kilobytes = Math.round(job.bytes / 1000);
  const detail = busiestDetail(before);
  const where = `${percent(detail.x)} ${percent(detail.y)} / ${percent(1 / DETAIL)}`;
  // a link is good for as long as the store runs; after that the file beside the page is shown
  const layers = (file, link) => [link, file].filter(Boolean).map((url) => `url('${escape(url)}') ${where}`).join(', ');
  const image = (file, link) => (link ? `src="${escape(link)}" onerror="this.onerror = null; this.src = '${file}'"` : `src="${file}"`);
  const figure = (kind, file, { width, height }, alt, text, link) => `
    <figure>
      <img class="${kind}" ${image(file, link)} width="${width}" height="${height}" style="aspect-ratio: ${width} / ${height}" alt="${alt}">
      <div class="detail ${kind}" role="img" aria-label="A detail of it, three times as large"
        style="background: ${layers(file, link)}; aspect-ratio: ${2 * width} / ${height}"></div>
      <figcaption>${text}</figcaption>
    </figure>`;
  return `
  <section>
    <h2>${escape(job.request.prompt)}</h2>
    <p>job ${job.id} through <code>${escape(job.server)}</code>, ${escape(job.state)}${job.id === killed
  ? '. Its dispatcher was killed while it ran; the next one took it up, and the server was asked for it once' : ''}</p>
    <div class="pair">${figure('before', files.before, before,
    `Before: ${what}, ${job.input ? 'a photograph' : 'a small drawing'} whose pixels are seen as squares`,
    `before: ${before.width} × ${before.height}, ${origin}`)}
      ${figure('after', files.after, after, `After: ${what}, twice as wide and high, with smooth edges`,
    `after: ${after.width} × ${after.height}, ${kilobytes} kB, sha256 ${job.sha256.slice(0, 16)}…${job.url ? `, <a href="${escape(job.link)}">${escape(job.url)}</a>` : ''}`, job.link)}
    </div>
    ${timeline(job, began)}
    <pre>${escape(statement(job))}</pre>
  </section>`;
}

const STYLE = `
  :root { color-scheme: light dark; --back: #fff; --text: #1d2129; --dim: #59616e; --code: #6b4a00; --box: #f1f3f6; --line: #c4cad3; --mark: #0b6bcb }
  @media (prefers-color-scheme: dark) {
    :root { --back: #16181d; --text: #e4e6ea; --dim: #9aa1ad; --code: #d7c08a; --box: #20242b; --line: #454c57; --mark: #59a8f5 }
  }
  body { margin: 2rem auto; max-width: 1140px; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif; background: var(--back); color: var(--text) }
  h1 { font-size: 1.6rem; margin-bottom: .3rem } h2 { font-size: 1.15rem; margin: 0 }
  p { margin: .2rem 0 .8rem } section p, figcaption, .times { color: var(--dim); font-size: .88rem }
  section { margin: 2.6rem 0 } .pair { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 1rem }
  figure { margin: 0 } figure img { width: 100%; height: auto; display: block; border-radius: 6px 6px 0 0 }
  figcaption { overflow-wrap: anywhere }
  .detail { border-radius: 0 0 6px 6px; margin-top: 3px }
  .before { image-rendering: pixelated }
  .bar { display: flex; height: 6px; margin: .8rem 0 .3rem; border-radius: 3px; overflow: hidden; background: var(--box) }
  .waited { background: var(--line) } .ran { background: var(--mark) }
  .times { display: flex; flex-wrap: wrap; gap: .1rem 1.2rem; list-style: none; margin: 0 0 .6rem; padding: 0 }
  code { color: var(--code) }
  pre { margin: 0; padding: .6rem .8rem; border-radius: 6px; background: var(--box); color: var(--code); font-size: .82rem; white-space: pre-wrap; overflow-wrap: anywhere }
  @media (max-width: 600px) { .pair { grid-template-columns: minmax(0, 1fr) } body { margin: 1rem auto } }
`;

function page(pairs, cancelled, seen) {
  const sections = [...pairs].sort((one, other) => Boolean(other.job.input) - Boolean(one.job.input));
  return `<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>genjob: before and after</title>
<style>${STYLE}</style>
<h1>Before and after</h1>
<p>Each pair is a row of <code>gen_jobs</code>. Before: what the network was given, its pixels simply made larger. After: what
came back into <code>gen_outputs</code>, made twice as wide and high by a super-resolution network (ESRGAN). Below each is a detail.
The bar is the job's time from its INSERT: grey while it waited for its turn, blue while it ran. The SQL makes such a job.</p>
${sections.map((pair) => section(pair, seen)).join('\n')}
${cancelled.map((job) => cancelledSection(job, seen)).join('\n')}
</html>
`;
}

/** An empty folder for the pictures; removes only what an earlier run wrote there. */
function emptyFolder(folder) {
  mkdirSync(folder, { recursive: true });
  for (const name of readdirSync(folder))
    if (/^job-\d+-(before|after)\.(png|jpg)$|^index\.html$/.test(name))
      rmSync(join(folder, name));
}

const folder = resolve(process.argv[2]);
const seen = existsSync(process.argv[3] ?? '') ? JSON.parse(readFileSync(process.argv[3], 'utf8')) : {};
const psql = new Psql();
try {
  const jobs = await psql.rows(JOBS);
  emptyFolder(folder);
  const pairs = [];
  const cancelled = [];
  let unfit = 0;
  for (const job of jobs)
    try {
      if (job.id === seen.cancelled && job.state === 'cancelled') {
        cancelled.push(job);
        continue;
      }
      pairs.push(await writePictures(folder, job));
    } catch (error) {
      if (!(error instanceof Unfit || error.badInput))
        throw error;
      console.error(`job ${job.id}: ${error.message}`);
      unfit++;
    }
  writeFileSync(join(folder, 'index.html'), page(pairs, cancelled, seen));
  console.log(`${pairs.length} pictures, each twice as wide and high as its source: ${folder}`);
  if (pairs.some(({ job }) => job.link))
    console.log(`the pictures are in ${pairs[0].job.url.replace(/^(s3:\/\/[^/]*).*/, '$1')}, and the page shows them by presigned links`);
  console.log(`before and after: ${pathToFileURL(join(folder, 'index.html'))}`);
  process.exitCode = unfit || !jobs.length ? 1 : 0;
} catch (error) {
  console.error(`gallery: ${error.message}`);
  process.exitCode = 1;
} finally {
  psql.close();
}
