// Owns the dialect of OpenAI's image API: https://platform.openai.com/docs/api-reference/images
import { Refusal, readForm, readInteger, readJson, readText } from './body.mjs';
import { CONTENT_TYPES } from './codec.mjs';
import { drawings, photographs, readScale, readSeed } from './pictures.mjs';
import { Task } from './studio.mjs';

export const MODEL = 'esrgan-slim-2x';

export const openaiRoutes = {
  'GET /v1/models': listModels,
  'POST /v1/images/generations': generate,
  'POST /v1/images/edits': edit,
};

/** The body of an error in this dialect. */
export function openaiError({ status, message, code, param }) {
  const type = status >= 500 ? 'server_error' : 'invalid_request_error';
  return { error: { message, type, param: param ?? null, code: code ?? null } };
}

function listModels() {
  return { object: 'list', data: [{ id: MODEL, object: 'model', created: 0, owned_by: 'upscalerjs' }] };
}

async function generate({ network, studio, request, signal, start }) {
  const body = await readJson(request);
  const prompt = readText(body, 'prompt');
  const count = readInteger(body, 'n', 1, 1, 10);
  const [width, height] = readSize(body);
  const output = readOutput(body);
  const sources = drawings(network, { prompt, seed: readSeed(body, 0), width, height, count });

  const task = start(new Task());
  const pictures = await studio.run(task, sources, 2, signal);
  return answer(network, task, pictures, output);
}

async function edit({ network, studio, request, signal, start }) {
  const { fields, files } = await readForm(request);
  readText(fields, 'prompt');
  const images = files.filter(({ name }) => /^image(\[\d*\])?$/.test(name)).map(({ bytes }) => bytes);
  if (images.length === 0)
    throw new Refusal(400, 'no picture: send it in a part named "image", with a file name',
      { code: 'missing_required_parameter', param: 'image' });
  if (files.some(({ name }) => name === 'mask'))
    throw new Refusal(400, 'the network enlarges the whole picture and takes no "mask"', { param: 'mask' });
  if (readInteger(fields, 'n', 1, 1, 10) !== 1)
    throw new Refusal(400, 'the same picture always gives the same result, so "n" must be 1', { param: 'n' });
  const output = readOutput(fields);
  const scale = readScale(fields);
  const photos = await photographs(network, images, scale);

  const task = start(new Task());
  const pictures = await studio.run(task, photos.map((photo) => () => photo), scale, signal);
  return answer(network, task, pictures, output);
}

function readSize(body) {
  const size = readText(body, 'size', '512x512');
  const match = /^(\d{1,5})x(\d{1,5})$/.exec(size === 'auto' ? '512x512' : size);
  if (!match)
    throw new Refusal(422, `"size" is ${JSON.stringify(size)}; it must look like "512x320"`, { param: 'size' });
  return [Number(match[1]), Number(match[2])];
}

function readOutput(body) {
  const format = readText(body, 'output_format', 'png');
  if (!(format in CONTENT_TYPES))
    throw new Refusal(400, `"output_format" is ${JSON.stringify(format)}; it must be one of ${Object.keys(CONTENT_TYPES).join(', ')}`,
      { param: 'output_format' });
  if (readText(body, 'response_format', 'b64_json') !== 'b64_json')
    throw new Refusal(400, 'pictures are answered as b64_json only', { param: 'response_format' });
  return { format, quality: readInteger(body, 'output_compression', 92, 1, 100) };
}

/** A network has no tokens; what is counted as one is a tile that went through it. */
async function answer(network, task, pictures, { format, quality }) {
  const data = [];
  for (const picture of pictures)
    data.push({ b64_json: Buffer.from(await network.encode({ ...picture, format, quality })).toString('base64') });
  return {
    created: Math.floor(Date.now() / 1000),
    background: 'opaque',
    output_format: format,
    size: `${pictures[0].width}x${pictures[0].height}`,
    data,
    usage: {
      input_tokens: task.tilesDone,
      output_tokens: task.tilesDone,
      total_tokens: 2 * task.tilesDone,
      input_tokens_details: { image_tokens: task.tilesDone, text_tokens: 0 },
    },
  };
}
