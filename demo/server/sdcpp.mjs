// Owns the dialect of stable-diffusion.cpp's own server (examples/server): a job is submitted, asked for by its id until it
// has ended, and may be cancelled. Beyond the original, a job tells its progress, one that is generating can be cancelled,
// and the same Idempotency-Key again is the same job.
import { randomBytes } from 'node:crypto';
import { Accepted, Refusal, readInteger, readJson, readText } from './body.mjs';
import { CONTENT_TYPES } from './codec.mjs';
import { decodeBase64, drawings, photographs, readScale, readSeed } from './pictures.mjs';
import { Abandoned, Task } from './studio.mjs';

const MOST_PENDING = 64;
const KEPT_MS = 600_000;

export const sdcppRoutes = {
  'POST /sdcpp/v1/img_gen': submit,
  'GET /sdcpp/v1/jobs/{id}': ask,
  'POST /sdcpp/v1/jobs/{id}/cancel': cancel,
};

/** The body of an error in this dialect. */
export function sdcppError({ message }) {
  return { error: message };
}

class SdcppJob extends Task {
  id = `job_${Math.floor(Date.now() / 1000).toString(16)}_${randomBytes(6).toString('hex')}`;
  created = now();
  completed = null;
  end = null; // completed, failed or cancelled
  images = [];
  error = null;
  cancelling = new AbortController();

  get status() { return this.end ?? (this.startedAt ? 'generating' : 'queued'); }

  /** The first end counts: a job that was cancelled does not fail as well. */
  finish(end, error = null) {
    this.end ??= end;
    this.error ??= error;
    this.completed ??= now();
  }
}

/** The jobs of one server. Those that have ended are kept for ten minutes, and known by name for ever. */
export class SdcppJobs {
  #jobs = new Map();
  #byKey = new Map();

  find(id) {
    const job = this.#jobs.get(id);
    if (job === undefined)
      throw new Refusal(404, 'job not found');
    if (job === null)
      throw new Refusal(410, 'job expired');
    return job;
  }

  findByKey(key) { return this.#byKey.get(key); }

  get pending() { return [...this.#jobs.values()].filter((job) => job && !job.end).length; }

  add(job, key) {
    this.#jobs.set(job.id, job);
    if (key)
      this.#byKey.set(key, job);
  }

  forgetLater(job, key) {
    setTimeout(() => {
      this.#jobs.set(job.id, null);
      this.#byKey.delete(key);
    }, KEPT_MS).unref();
  }
}

async function submit({ network, studio, request, jobs, start }) {
  const key = request.headers['idempotency-key'];
  const body = await readJson(request);
  const work = await preparation(network, body);
  const known = jobs.findByKey(key);
  if (known)
    return new Accepted(receipt(known));
  if (jobs.pending >= MOST_PENDING)
    throw new Refusal(429, 'job queue is full');
  const job = start(new SdcppJob());
  jobs.add(job, key);
  generate(network, studio, job, work).finally(() => jobs.forgetLater(job, key));
  return new Accepted(receipt(job));
}

/** What is to be enlarged and by how much, as studio.run() takes it, and how it is to be encoded. */
async function preparation(network, body) {
  const format = readText(body, 'output_format', 'png');
  if (!(format in CONTENT_TYPES))
    throw new Refusal(400, `"output_format" is ${JSON.stringify(format)}; it must be one of ${Object.keys(CONTENT_TYPES).join(', ')}`);
  if (body.init_image !== undefined && body.init_image !== null && body.init_image !== '') {
    const scale = readScale(body);
    const [photo] = await photographs(network, [decodeBase64(body.init_image, 'init_image')], scale);
    return { sources: [() => photo], scale, format };
  }
  const scene = {
    prompt: readText(body, 'prompt', ''),
    seed: readSeed(body, -1),
    width: readInteger(body, 'width', 512, 1, 65536),
    height: readInteger(body, 'height', 512, 1, 65536),
    count: readInteger(body, 'batch_count', 1, 1, 8),
  };
  return { sources: drawings(network, scene), scale: 2, format };
}

/** Never rejects: how it ended is told to who asks. */
async function generate(network, studio, job, { sources, scale, format }) {
  try {
    const pictures = await studio.run(job, sources, scale, job.cancelling.signal);
    for (const picture of pictures)
      job.images.push(Buffer.from(await network.encode({ ...picture, format })).toString('base64'));
    job.format = format;
    job.finish('completed');
  } catch (error) {
    if (!(error instanceof Abandoned))
      console.error(error);
    job.finish('failed', { code: 'generation_failed', message: error.message });
  }
  job.pictures = [];
  job.canvas = null;
}

function receipt(job) {
  return { id: job.id, kind: 'img_gen', status: job.status, created: job.created, poll_url: `/sdcpp/v1/jobs/${job.id}` };
}

function ask({ jobs, studio, id }) {
  return describeJob(jobs.find(id), studio);
}

function cancel({ jobs, studio, request, id }) {
  request.resume();
  const job = jobs.find(id);
  if (job.end)
    throw new Refusal(409, `job is already ${job.end}`);
  job.finish('cancelled', { code: 'cancelled', message: 'job cancelled by client' });
  job.cancelling.abort();
  return describeJob(job, studio);
}

function describeJob(job, studio) {
  const { id, status, created, completed, error } = job;
  return {
    id,
    kind: 'img_gen',
    status,
    created,
    started: job.startedAt && Math.floor(job.startedAt / 1000),
    completed,
    queue_position: status === 'queued' ? studio.place(job) : 0,
    progress: status === 'completed' ? 1 : job.progress,
    result: status === 'completed'
      ? { output_format: job.format, images: job.images.map((b64_json, index) => ({ index, b64_json })) }
      : null,
    error,
  };
}

function now() {
  return Math.floor(Date.now() / 1000);
}
