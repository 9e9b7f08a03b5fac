// Owns the dialect of AUTOMATIC1111's web UI (modules/api/api.py). As there, progress and interrupt name no task: they
// mean the one that runs. Only this dialect's tasks are meant, so that a stranger's picture is never interrupted.
import { Refusal, readInteger, readJson, readText } from './body.mjs';
import { decodeBase64, drawings, photographs, readScale, readSeed } from './pictures.mjs';
import { Task } from './studio.mjs';

export const sdapiRoutes = {
  'POST /sdapi/v1/txt2img': txt2img,
  'POST /sdapi/v1/img2img': img2img,
  'GET /sdapi/v1/progress': progress,
  'POST /sdapi/v1/interrupt': interrupt,
};

/** The body of an error in this dialect. */
export function sdapiError({ message }) {
  return { error: 'HTTPException', detail: message, body: '', errors: message };
}

class SdTask extends Task {
  constructor(job) {
    super();
    this.job = job;
  }
}

async function txt2img({ network, studio, request, signal, start }) {
  const body = await readJson(request);
  const scene = {
    prompt: readText(body, 'prompt', ''),
    seed: readSeed(body, -1),
    width: readInteger(body, 'width', 512, 1, 65536),
    height: readInteger(body, 'height', 512, 1, 65536),
    count: readInteger(body, 'batch_size', 1, 1, 8) * readInteger(body, 'n_iter', 1, 1, 8),
  };
  const sources = drawings(network, scene);

  const task = start(new SdTask('txt2img'));
  const pictures = await studio.run(task, sources, 2, signal);
  return answer(network, body, pictures, scene);
}

async function img2img({ network, studio, request, signal, start }) {
  const body = await readJson(request);
  if (!Array.isArray(body.init_images) || body.init_images.length === 0)
    throw new Refusal(422, '"init_images" must be a list with at least one picture in base64', { param: 'init_images' });
  const scale = readScale(body);
  const photos = await photographs(network, body.init_images.map((text) => decodeBase64(text, 'init_images')), scale);
  for (const photo of photos)
    checkSize(body, photo, scale);

  const task = start(new SdTask('img2img'));
  const pictures = await studio.run(task, photos.map((photo) => () => photo), scale, signal);
  return answer(network, body, pictures, { prompt: readText(body, 'prompt', ''), seed: readSeed(body, -1) });
}

async function progress({ network, studio, url }) {
  const task = studio.running instanceof SdTask ? studio.running : null;
  const wantsPicture = url.searchParams.get('skip_current_image') !== 'true';
  const seconds = task?.startedAt ? (Date.now() - task.startedAt) / 1000 : 0;
  return {
    progress: task?.progress ?? 0,
    eta_relative: task?.progress ? seconds / task.progress - seconds : 0,
    state: {
      skipped: false,
      interrupted: task?.interrupted ?? false,
      stopping_generation: false,
      job: task?.job ?? '',
      job_count: task?.pictureCount ?? 0,
      job_no: task?.pictures.length ?? 0,
      job_timestamp: timestamp(task?.startedAt),
      sampling_step: task?.tilesDone ?? 0,
      sampling_steps: task?.tileCount ?? 0,
    },
    current_image: wantsPicture && task?.canvas ? await encodeBase64(network, task.canvas) : null,
    textinfo: task ? `tile ${task.tilesDone} of ${task.tileCount}` : null,
  };
}

function interrupt({ studio, request }) {
  request.resume();
  if (studio.running instanceof SdTask)
    studio.running.interrupt();
  return {};
}

/** A size need not be given; one that is given must be one that the network can make. */
function checkSize(body, photo, scale) {
  const width = readInteger(body, 'width', photo.width * scale, 1, 65536);
  const height = readInteger(body, 'height', photo.height * scale, 1, 65536);
  if (width === photo.width * scale && height === photo.height * scale)
    return;
  const [from, to] = [`${photo.width} x ${photo.height}`, `${photo.width * scale} x ${photo.height * scale}`];
  throw new Refusal(422, `a picture of ${from} becomes ${to}, not ${width} x ${height}; leave out "width" and "height"`, { param: 'width' });
}

async function answer(network, body, pictures, { prompt, seed }) {
  const images = [];
  if (body.send_images !== false)
    for (const picture of pictures)
      images.push(await encodeBase64(network, picture));
  const { init_images, ...parameters } = body;
  return {
    images,
    parameters: { ...parameters, prompt },
    info: JSON.stringify({
      prompt,
      all_prompts: pictures.map(() => prompt),
      seed,
      all_seeds: pictures.map((_, index) => (seed + index) >>> 0),
      width: pictures[0]?.width ?? 0,
      height: pictures[0]?.height ?? 0,
      sd_model_name: 'esrgan-slim-2x',
      job_timestamp: timestamp(Date.now()),
    }),
  };
}

async function encodeBase64(network, picture) {
  return Buffer.from(await network.encode(picture)).toString('base64');
}

/** As 20250131235959; zeros for none. */
function timestamp(milliseconds) {
  return milliseconds ? new Date(milliseconds).toISOString().replace(/\D/g, '').slice(0, 14) : '0';
}
