// The server's own test: node --test test.mjs. Starts the real server; the network really runs.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, existsSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { after, before, describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { decodePicture, encodePicture } from './codec.mjs';
import { drawScene } from './scene.mjs';
import { doubleNearest } from './studio.mjs';

const KEY = 'painter:secret';
const PHOTOS = new URL('../photos/', import.meta.url);
const photo = (name) => readFileSync(new URL(name, PHOTOS));

let folder, server, base;

/** Starts a server with a port of its own; gives its address once it can make pictures. */
async function startServer(...flags) {
  const portFile = join(folder, `port.${Math.random()}`);
  const program = fileURLToPath(new URL('server.mjs', import.meta.url));
  const child = spawn(process.execPath, [program, '--port-file', portFile, ...flags], { stdio: ['pipe', 'ignore', 'inherit'] });
  await until(() => existsSync(portFile) || child.exitCode !== null, 'the server to start');
  assert.equal(child.exitCode, null, 'the server ended');
  return { child, base: `http://127.0.0.1:${readFileSync(portFile, 'utf8').trim()}` };
}

async function until(condition, what, seconds = 60) {
  for (const end = Date.now() + seconds * 1000; Date.now() < end; await pause(10)) {
    const value = await condition();
    if (value)
      return value;
  }
  assert.fail(`waited ${seconds} s for ${what}`);
}

async function call(path, { body, form, key = KEY, signal, method } = {}) {
  const headers = { authorization: `Bearer ${key}` };
  if (body !== undefined)
    headers['content-type'] = 'application/json';
  const response = await fetch(base + path, {
    method: method ?? (body !== undefined || form ? 'POST' : 'GET'),
    headers,
    body: form ?? (typeof body === 'object' ? JSON.stringify(body) : body),
    signal,
  });
  return { status: response.status, body: await response.json() };
}

function editForm(bytes, fields = {}) {
  const form = new FormData();
  for (const [name, value] of Object.entries({ prompt: 'larger', ...fields }))
    form.set(name, value);
  if (bytes)
    form.set('image', new Blob([bytes]), 'picture');
  return form;
}

const health = async () => (await call('/health')).body;
const idle = () => until(async () => !(await health()).busy, 'the server to be idle');
const pixelsOf = (base64) => decodePicture(Buffer.from(base64, 'base64'));

function crop({ width, rgb }, left, top, newWidth, newHeight) {
  const piece = { width: newWidth, height: newHeight, rgb: new Uint8Array(newWidth * newHeight * 3) };
  for (let row = 0; row < newHeight; row++) {
    const from = ((top + row) * width + left) * 3;
    piece.rgb.set(rgb.subarray(from, from + newWidth * 3), row * newWidth * 3);
  }
  return piece;
}

/** Half as wide and high, by the mean of four pixels. */
function halve({ width, height, rgb }) {
  const half = { width: width / 2, height: height / 2, rgb: new Uint8Array(rgb.length / 4) };
  for (let y = 0, to = 0; y < half.height; y++)
    for (let x = 0; x < half.width; x++)
      for (let channel = 0; channel < 3; channel++, to++) {
        const from = (2 * y * width + 2 * x) * 3 + channel;
        half.rgb[to] = Math.round((rgb[from] + rgb[from + 3] + rgb[from + width * 3] + rgb[from + width * 3 + 3]) / 4);
      }
  return half;
}

/** Twice as wide and high, by linear interpolation between pixel centres. */
function doubleBilinear({ width, height, rgb }) {
  const doubled = { width: 2 * width, height: 2 * height, rgb: new Uint8Array(rgb.length * 4) };
  const at = (x, y, channel) => rgb[(Math.max(0, Math.min(height - 1, y)) * width + Math.max(0, Math.min(width - 1, x))) * 3 + channel];
  for (let y = 0, to = 0; y < doubled.height; y++)
    for (let x = 0; x < doubled.width; x++)
      for (let channel = 0; channel < 3; channel++, to++) {
        const [left, top] = [(x - 1) >> 1, (y - 1) >> 1];
        const [s, t] = [x % 2 ? 0.25 : 0.75, y % 2 ? 0.25 : 0.75];
        doubled.rgb[to] = Math.round(
          (at(left, top, channel) * (1 - s) + at(left + 1, top, channel) * s) * (1 - t) +
          (at(left, top + 1, channel) * (1 - s) + at(left + 1, top + 1, channel) * s) * t);
      }
  return doubled;
}

/** Decibels by which two pictures of one size are alike. */
function psnr(one, other) {
  assert.deepEqual([one.width, one.height], [other.width, other.height]);
  const squares = one.rgb.reduce((sum, value, index) => sum + (value - other.rgb[index]) ** 2, 0);
  return 10 * Math.log10(255 ** 2 / (squares / one.rgb.length));
}

before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'genai-server-test.'));
  ({ child: server, base } = await startServer('--api-key', KEY, '--tile', '48', '--die-with-parent'));
});

after(async () => {
  server.stdin.end();
  if (server.exitCode === null)
    await once(server, 'exit');
  rmSync(folder, { recursive: true });
});

describe('the network', () => {
  for (const [name, left, top] of [['cat.jpg', 80, 40], ['astronaut.jpg', 40, 20], ['coffee.png', 40, 4]])
    test(`restores ${name} better than interpolation does`, async (t) => {
      const original = crop(decodePicture(photo(name)), left, top, 128, 128);
      const half = halve(original);
      const { status, body } = await call('/v1/images/edits', { form: editForm(encodePicture(half)) });
      assert.equal(status, 200, JSON.stringify(body));

      const score = {
        network: psnr(pixelsOf(body.data[0].b64_json), original),
        bilinear: psnr(doubleBilinear(half), original),
        nearest: psnr(doubleNearest(half), original),
      };
      t.diagnostic(Object.entries(score).map(([way, decibels]) => `${way} ${decibels.toFixed(2)} dB`).join(', '));
      assert.ok(score.network > score.nearest + 1, 'nearest neighbour');
      assert.ok(score.network > score.bilinear, 'bilinear');
    });

  test('shows no seams between tiles', async () => {
    const large = await startServer('--tile', '512', '--die-with-parent');
    const picture = encodePicture(crop(decodePicture(photo('cat.jpg')), 60, 30, 120, 100));
    const tiled = await call('/v1/images/edits', { form: editForm(picture) });
    const whole = await (await fetch(`${large.base}/v1/images/edits`, { method: 'POST', body: editForm(picture) })).json();
    large.child.stdin.end();
    await once(large.child, 'exit');
    assert.equal(tiled.body.usage.input_tokens, 9, 'tiles');
    assert.equal(whole.usage.input_tokens, 1, 'tiles');

    const [one, other] = [pixelsOf(tiled.body.data[0].b64_json), pixelsOf(whole.data[0].b64_json)];
    const worst = one.rgb.reduce((most, value, index) => Math.max(most, Math.abs(value - other.rgb[index])), 0);
    assert.ok(worst <= 1, `differs by ${worst}`);
  });
});

describe('the OpenAI dialect', () => {
  test('edits: several pictures, four times, as JPEG', async () => {
    const form = editForm(null, { scale: '4', output_format: 'jpeg' });
    for (const [width, height] of [[40, 30], [20, 50]])
      form.append('image[]', new Blob([encodePicture({ width, height, rgb: new Uint8Array(width * height * 3).fill(90) })]), 'x.png');
    const { status, body } = await call('/v1/images/edits', { form });
    assert.equal(status, 200, JSON.stringify(body));
    assert.equal(body.output_format, 'jpeg');
    assert.ok(Number.isInteger(body.created));
    const sizes = body.data.map(({ b64_json }) => pixelsOf(b64_json)).map(({ width, height }) => `${width}x${height}`);
    assert.deepEqual(sizes, ['160x120', '80x200']);
  });

  test('generations: the same prompt and seed give the same picture, another seed another', async () => {
    const ask = async (seed) => (await call('/v1/images/generations', { body: { prompt: 'a lighthouse at dawn', size: '128x96', seed } })).body;
    const [first, again, other] = [await ask(7), await ask(7), await ask(8)];
    assert.equal(first.data[0].b64_json, again.data[0].b64_json);
    assert.notEqual(first.data[0].b64_json, other.data[0].b64_json);

    const picture = pixelsOf(first.data[0].b64_json);
    assert.deepEqual([picture.width, picture.height], [128, 96]);
    const drawing = drawScene({ prompt: 'a lighthouse at dawn', seed: 7, width: 64, height: 48 });
    const likeness = psnr(picture, doubleNearest(drawing));
    assert.ok(likeness > 20 && likeness < 60, `the picture is the drawing, enlarged by the network: ${likeness} dB`);
  });

  test('generations: n pictures', async () => {
    const { body } = await call('/v1/images/generations', { body: { prompt: 'hills', size: '64x64', n: 3 } });
    assert.equal(new Set(body.data.map(({ b64_json }) => b64_json)).size, 3);
    assert.deepEqual(body.usage.total_tokens, body.usage.input_tokens + body.usage.output_tokens);
  });
});

describe('the web UI dialect', () => {
  test('progress rises, health answers meanwhile', async () => {
    await idle();
    const picture = photo('cat.jpg').toString('base64');
    const answer = call('/sdapi/v1/img2img', { body: { init_images: [`data:image/jpeg;base64,${picture}`] } });
    let finished = false;
    answer.finally(() => { finished = true; });

    const seen = [];
    let slowest = 0, preview = null;
    while (!finished) {
      const { body } = await call(`/sdapi/v1/progress?skip_current_image=${preview === null ? 'false' : 'true'}`);
      if (body.state.job)
        seen.push(body);
      preview ??= body.current_image;
      const asked = performance.now();
      assert.equal((await health()).status, 'ok');
      slowest = Math.max(slowest, performance.now() - asked);
      await pause(10);
    }
    const { status, body } = await answer;
    assert.equal(status, 200, JSON.stringify(body));
    const { width, height } = pixelsOf(body.images[0]);
    assert.deepEqual([width, height], [576, 384]);
    assert.deepEqual([JSON.parse(body.info).width, JSON.parse(body.info).height], [576, 384]);

    const fractions = seen.map(({ progress }) => progress);
    assert.ok(new Set(fractions).size >= 5, `fractions ${fractions}`);
    assert.deepEqual(fractions, [...fractions].sort((a, b) => a - b));
    assert.ok(fractions.every((fraction) => fraction >= 0 && fraction <= 1));
    assert.ok(seen.every(({ state }) => state.job === 'img2img' && state.job_count === 1 && !state.interrupted));
    assert.equal(pixelsOf(preview).width, 576);
    assert.ok(slowest < 2000, `health took ${slowest} ms`);
    assert.equal((await call('/sdapi/v1/progress')).body.progress, 0);
  });

  test('interrupt answers what is done, with 200', async () => {
    await idle();
    const original = decodePicture(photo('astronaut.jpg'));
    const answer = call('/sdapi/v1/img2img', { body: { init_images: [photo('astronaut.jpg').toString('base64')] } });
    await until(async () => (await call('/sdapi/v1/progress')).body.state.sampling_step >= 2, 'two tiles');
    assert.deepEqual((await call('/sdapi/v1/interrupt', { body: {} })).status, 200);
    const { status, body } = await answer;
    assert.equal(status, 200);

    const picture = pixelsOf(body.images[0]);
    const untouched = doubleNearest(original);
    assert.deepEqual([picture.width, picture.height], [480, 480]);
    assert.ok(psnr(crop(picture, 0, 0, 96, 96), crop(untouched, 0, 0, 96, 96)) < 50, 'the first tile is done');
    assert.equal(psnr(crop(picture, 384, 384, 96, 96), crop(untouched, 384, 384, 96, 96)), Infinity, 'the last is not');
    assert.equal((await health()).busy, false);
  });

  test('interrupt leaves the other dialect alone', async () => {
    await idle();
    const answer = call('/v1/images/edits', { form: editForm(photo('cat.jpg')) });
    await until(async () => (await health()).running?.progress > 0, 'a first tile');
    await call('/sdapi/v1/interrupt', { body: {} });
    const { body } = await answer;
    assert.equal(body.usage.input_tokens, 24, 'all tiles');
  });

  test('txt2img draws and enlarges', async () => {
    const { status, body } = await call('/sdapi/v1/txt2img', { body: { prompt: 'a boat at night', width: 128, height: 64, seed: 3, batch_size: 2 } });
    assert.equal(status, 200, JSON.stringify(body));
    assert.deepEqual(body.images.map(pixelsOf).map(({ width, height }) => [width, height]), [[128, 64], [128, 64]]);
    assert.deepEqual(JSON.parse(body.info).all_seeds, [3, 4]);
  });
});

describe('the stable-diffusion.cpp dialect', () => {
  const submit = (body, key) => fetch(`${base}/sdcpp/v1/img_gen`, {
    method: 'POST',
    headers: { 'authorization': `Bearer ${KEY}`, 'content-type': 'application/json', ...(key ? { 'idempotency-key': key } : {}) },
    body: JSON.stringify(body),
  }).then(async (response) => ({ status: response.status, body: await response.json() }));
  const ask = async (id) => (await call(`/sdcpp/v1/jobs/${id}`)).body;
  const cat = () => ({ init_image: photo('cat.jpg').toString('base64') });

  test('a job: submitted, asked for while its progress rises, done', async () => {
    await idle();
    const { status, body } = await submit(cat());
    assert.equal(status, 202, JSON.stringify(body));
    assert.deepEqual([body.kind, body.poll_url], ['img_gen', `/sdcpp/v1/jobs/${body.id}`]);
    const seen = [];
    const done = await until(async () => {
      seen.push(await ask(body.id));
      return ['queued', 'generating'].includes(seen.at(-1).status) ? null : seen.at(-1);
    }, 'the job to end');
    assert.equal(done.status, 'completed', JSON.stringify(done.error));
    const { width, height } = pixelsOf(done.result.images[0].b64_json);
    assert.deepEqual([width, height, done.result.output_format, done.progress], [576, 384, 'png', 1]);
    const fractions = seen.map(({ progress }) => progress);
    assert.ok(new Set(fractions).size >= 5, `fractions ${fractions}`);
    assert.deepEqual(fractions, [...fractions].sort((a, b) => a - b));
  });

  test('drawings; the same key is the same job', async () => {
    const request = { prompt: 'a boat at night', width: 128, height: 64, seed: 3, batch_count: 2, output_format: 'jpeg' };
    const [one, again, other] = [await submit(request, 'k1'), await submit(request, 'k1'), await submit(request, 'k2')];
    assert.equal(one.body.id, again.body.id);
    assert.notEqual(one.body.id, other.body.id);
    const { result } = await until(async () => {
      const job = await ask(one.body.id);
      return job.status === 'completed' && job;
    }, 'the job to end');
    assert.deepEqual(result.images.map(({ b64_json }) => pixelsOf(b64_json)).map(({ width, height }) => [width, height]), [[128, 64], [128, 64]]);
  });

  test('cancelled: while it waits, while it runs, after its end', async () => {
    await idle();
    const [running, waiting] = [(await submit(cat())).body, (await submit(cat())).body];
    assert.equal((await ask(waiting.id)).queue_position, 1);
    await until(async () => (await ask(running.id)).progress > 0, 'a first tile');
    for (const { id } of [waiting, running]) {
      const { status, body } = await call(`/sdcpp/v1/jobs/${id}/cancel`, { method: 'POST' });
      assert.deepEqual([status, body.status, body.error.code], [200, 'cancelled', 'cancelled']);
    }
    await idle();
    assert.equal((await ask(running.id)).status, 'cancelled');
    assert.equal((await call(`/sdcpp/v1/jobs/${running.id}/cancel`, { method: 'POST' })).status, 409);
  });

  test('the web UI interrupts none of its jobs, nor tells of them', async () => {
    await idle();
    const { body: { id } } = await submit(cat());
    await until(async () => (await ask(id)).progress > 0, 'a first tile');
    await call('/sdapi/v1/interrupt', { body: {} });
    assert.equal((await call('/sdapi/v1/progress')).body.progress, 0);
    await until(async () => (await ask(id)).status === 'completed', 'the job to end');
  });

  test('refusals in its own words', async () => {
    for (const [status, path, options] of [
      [404, '/sdcpp/v1/jobs/job_x', {}],
      [404, '/sdcpp/v1/jobs/', {}],
      [405, '/sdcpp/v1/jobs/job_x', { method: 'DELETE' }],
      [422, '/sdcpp/v1/img_gen', { body: { width: 7 } }],
      [422, '/sdcpp/v1/img_gen', { body: { init_image: '%%%' } }],
      [400, '/sdcpp/v1/img_gen', { body: { output_format: 'webp' } }],
      [401, '/sdcpp/v1/img_gen', { body: {}, key: 'wrong' }],
    ]) {
      const answer = await call(path, options);
      assert.equal(answer.status, status, JSON.stringify(answer.body));
      assert.match(answer.body.error, /\w+ \w+/);
    }
  });
});

describe('turns', () => {
  test('one picture at a time, the others wait; who leaves gives up the turn', async () => {
    await idle();
    const gone = [new AbortController(), new AbortController()];
    const calls = gone.map(({ signal }) => call('/v1/images/edits', { form: editForm(photo('cat.jpg')), signal }).catch((error) => error.name));
    await until(async () => (await health()).queued === 1, 'one to wait');
    assert.equal((await health()).busy, true);

    const third = call('/v1/images/edits', { form: editForm(encodePicture({ width: 16, height: 16, rgb: new Uint8Array(768) })) });
    await until(async () => (await health()).queued === 2, 'two to wait');
    for (const controller of gone)
      controller.abort();
    assert.deepEqual(await Promise.all(calls), ['AbortError', 'AbortError']);
    assert.equal((await third).status, 200);
    const { busy, queued } = await health();
    assert.deepEqual({ busy, queued }, { busy: false, queued: 0 });
  });
});

describe('refusals', () => {
  const png = encodePicture({ width: 8, height: 8, rgb: new Uint8Array(192) });
  const hugePng = Buffer.from(png);
  hugePng.writeUInt32BE(60000, 16);
  hugePng.writeUInt32BE(60000, 20);
  const openai = {
    'a body that is not JSON': [400, '/v1/images/generations', { body: '{"prompt":' }],
    'a body that is no object': [400, '/v1/images/generations', { body: '[1]' }],
    'no prompt': [400, '/v1/images/generations', { body: {} }],
    'a size that is none': [422, '/v1/images/generations', { body: { prompt: 'x', size: 'large' } }],
    'a size too large': [422, '/v1/images/generations', { body: { prompt: 'x', size: '4096x4096' } }],
    'a seed that is no number': [422, '/v1/images/generations', { body: { prompt: 'x', seed: 'y' } }],
    'a format it cannot write': [400, '/v1/images/generations', { body: { prompt: 'x', output_format: 'webp' } }],
    'an edit that is no form': [400, '/v1/images/edits', { body: {} }],
    'an edit without a picture': [400, '/v1/images/edits', { form: editForm(null) }],
    'an edit without a prompt': [400, '/v1/images/edits', { form: editForm(png, { prompt: '' }) }],
    'an edit by a factor it cannot': [422, '/v1/images/edits', { form: editForm(png, { scale: '3' }) }],
    'what is no picture': [422, '/v1/images/edits', { form: editForm('hello') }],
    'a picture cut short': [422, '/v1/images/edits', { form: editForm(photo('cat.jpg').subarray(0, 9000)) }],
    'a PNG cut short': [422, '/v1/images/edits', { form: editForm(photo('coffee.png').subarray(0, 9000)) }],
    'a picture that claims 60000 x 60000': [422, '/v1/images/edits', { form: editForm(hugePng) }],
    'a wrong key': [401, '/v1/models', { key: 'wrong' }],
    'an unknown path': [404, '/v1/poems', {}],
    'a wrong method': [405, '/v1/images/edits', { method: 'GET' }],
  };
  for (const [what, [status, path, options]] of Object.entries(openai))
    test(`${what}: ${status}`, async () => {
      const answer = await call(path, options);
      assert.equal(answer.status, status, JSON.stringify(answer.body));
      assert.deepEqual(Object.keys(answer.body.error).sort(), ['code', 'message', 'param', 'type']);
      assert.match(answer.body.error.message, /\w+ \w+/);
    });

  for (const [what, body] of Object.entries({
    'no pictures': {},
    'a link': { init_images: ['http://127.0.0.1/x.png'] },
    'what is not base64': { init_images: ['%%%'] },
    'a size it cannot make': { init_images: [Buffer.from(png).toString('base64')], width: 512, height: 512 },
  }))
    test(`web UI, ${what}: 422`, async () => {
      const answer = await call('/sdapi/v1/img2img', { body });
      assert.equal(answer.status, 422);
      assert.match(answer.body.detail, /\w+ \w+/);
    });

  test('basic authentication, as the web UI has it', async () => {
    const ask = (pair) => fetch(`${base}/sdapi/v1/progress`, { headers: { authorization: `Basic ${Buffer.from(pair).toString('base64')}` } });
    assert.equal((await ask(KEY)).status, 200);
    assert.equal((await ask('painter:wrong')).status, 401);
  });

  test('a path that is no URL: 404', async () => {
    const { hostname, port } = new URL(base);
    for (const path of ['//', '/%', '//[::', '/?%zz']) {
      const request = httpRequest({ hostname, port, path }).end();
      const [response] = await once(request, 'response');
      assert.equal(response.statusCode, 404);
      response.resume();
    }
  });

  for (const path of ['/v1/images/generations', '/v1/images/edits'])
    test(`more than 50 MB to ${path}: 413`, async () => {
      const { hostname, port } = new URL(base);
      const headers = { 'authorization': `Bearer ${KEY}`, 'content-type': 'multipart/form-data; boundary=b' };
      const request = httpRequest({ hostname, port, path, method: 'POST', headers });
      const answered = once(request, 'response');
      request.write('--b\r\ncontent-disposition: form-data; name="image"; filename="x"\r\n\r\n');
      for (let sent = 0; sent <= 51; sent++)
        if (!request.write(Buffer.alloc(2 ** 20, 65)))
          await once(request, 'drain');
      request.end('\r\n--b--\r\n');
      const [response] = await answered;
      assert.equal(response.statusCode, 413);
      response.resume();
      await once(response, 'end');
    });
});

test('ends when its standard input closes, and on SIGTERM', async () => {
  for (const stop of [(child) => child.stdin.end(), (child) => child.kill('SIGTERM')]) {
    const { child } = await startServer('--die-with-parent');
    stop(child);
    const [code] = await once(child, 'exit');
    assert.equal(code, 0);
  }
});
