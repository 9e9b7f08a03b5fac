// Owns what all dialects ask for: pictures drawn from a prompt, pictures handed in, and their limits.
import { randomInt } from 'node:crypto';
import { Refusal, readInteger } from './body.mjs';
import { MAX_INPUT_PIXELS } from './codec.mjs';

const LEAST_SIDE = 64;
const MOST_SIDE = 1024;
export const MAX_SEED = 2 ** 32 - 1;

/** 2 or 4. */
export function readScale(body) {
  const scale = readInteger(body, 'scale', 2, 1, 64);
  if (scale !== 2 && scale !== 4)
    throw new Refusal(422, `"scale" is ${scale}; the network doubles, once or twice: 2 or 4`, { param: 'scale' });
  return scale;
}

/** A seed; -1 and null mean any. */
export function readSeed(body, fallback) {
  const seed = readInteger(body, 'seed', fallback, -1, MAX_SEED);
  return seed === -1 ? randomInt(2 ** 32) : seed;
}

/** Sources that draw `count` pictures at half of the size asked for; the network doubles it. */
export function drawings(network, { prompt, seed, width, height, count }) {
  for (const side of [width, height])
    if (side % 2 !== 0 || side < LEAST_SIDE || side > MOST_SIDE)
      throw new Refusal(422, `the size is ${width}x${height}; each side must be an even number from ${LEAST_SIDE} to ${MOST_SIDE}`,
        { param: 'size' });
  return Array.from({ length: count }, (_, index) => () =>
    network.draw({ prompt, seed: (seed + index) >>> 0, width: width / 2, height: height / 2 }));
}

/** The pixels of files that were handed in. Refuses, before any turn is taken, what cannot be enlarged by that scale. */
export async function photographs(network, files, scale) {
  const pictures = [];
  for (const file of files)
    try {
      pictures.push(await network.decode(file));
    } catch (error) {
      throw error.badInput ? new Refusal(422, error.message, { code: 'invalid_image', param: 'image' }) : error;
    }
  const most = MAX_INPUT_PIXELS / (scale / 2) ** 2;
  for (const { width, height } of pictures)
    if (width * height > most)
      throw new Refusal(422, `the picture is ${width} x ${height} pixels, too large to enlarge ${scale} times; at most ${most} pixels`,
        { param: 'image' });
  return pictures;
}

/** The bytes of a member that holds raw base64 or a data: URL. */
export function decodeBase64(text, name) {
  if (typeof text !== 'string')
    throw new Refusal(422, `"${name}" must hold base64 text`, { param: name });
  if (/^https?:/i.test(text))
    throw new Refusal(422, `"${name}" holds a link; links are not fetched, send the picture itself in base64`, { param: name });
  const payload = text.replace(/^data:[^,]*;base64,/i, '');
  if (!/^[A-Za-z0-9+/\s]+={0,2}\s*$/.test(payload))
    throw new Refusal(422, `"${name}" holds what is not base64`, { param: name });
  return Buffer.from(payload, 'base64');
}
