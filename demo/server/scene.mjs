// Owns the drawing behind "generations": a small landscape painted by noise and geometry from a prompt and a seed. No
// network draws it; the network enlarges it. The words of the prompt choose the hour and what stands in the landscape, the
// seed chooses the rest. The same prompt and seed give the same pixels.

const HOURS = {
  night: { top: [8, 12, 38], middle: [24, 34, 78], low: [64, 72, 120], light: [236, 238, 220],
    far: [38, 46, 88], near: [8, 10, 24], words: /night|moon|midnight|stars?\b|dark/ },
  dawn: { top: [92, 120, 178], middle: [236, 170, 158], low: [255, 222, 170], light: [255, 246, 214],
    far: [168, 140, 164], near: [46, 44, 62], words: /dawn|sunrise|morning|spring/ },
  dusk: { top: [52, 40, 92], middle: [206, 88, 90], low: [255, 178, 92], light: [255, 226, 150],
    far: [128, 70, 98], near: [30, 20, 38], words: /dusk|sunset|evening|autumn|fire/ },
  day: { top: [58, 122, 204], middle: [138, 190, 230], low: [226, 238, 240], light: [255, 252, 232],
    far: [140, 170, 192], near: [34, 66, 52], words: /day|noon|summer|sunny|blue/ },
};

const THINGS = {
  sea: /sea\b|ocean|lake|water|harbou?r|coast|island|bay|fjord|river|lighthouse|boat|sail/,
  lighthouse: /lighthouse|beacon/,
  boat: /boat|sail|ship/,
  forest: /forest|trees?\b|pines?\b|woods?\b/,
  snow: /snow|winter|ice|alp|glacier/,
};

/** Samples per pixel along each axis: it makes edges smooth. */
const SUBPIXELS = 2;

/** The drawing as { width, height, rgb }. */
export function drawScene({ prompt, seed, width, height }) {
  const scene = composeScene(prompt, seed, width / height);
  const rgb = new Uint8Array(width * height * 3);
  for (let y = 0, to = 0; y < height; y++)
    for (let x = 0; x < width; x++, to += 3) {
      const sum = [0, 0, 0];
      for (let sub = 0; sub < SUBPIXELS ** 2; sub++) {
        const u = (x + ((sub % SUBPIXELS) + 0.5) / SUBPIXELS) / height;
        const v = (y + (Math.floor(sub / SUBPIXELS) + 0.5) / SUBPIXELS) / height;
        const colour = colourAt(scene, u, v);
        for (let channel = 0; channel < 3; channel++)
          sum[channel] += colour[channel];
      }
      for (let channel = 0; channel < 3; channel++)
        rgb[to + channel] = Math.max(0, Math.min(255, Math.round(sum[channel] / SUBPIXELS ** 2)));
    }
  return { width, height, rgb };
}

/** What the prompt and the seed decide, once. u runs 0..aspect, v runs 0..1 downwards. */
function composeScene(prompt, seed, aspect) {
  const words = prompt.toLowerCase();
  const random = mulberry32(hash(words) ^ seed);
  const named = Object.values(HOURS).find((candidate) => candidate.words.test(words));
  const hour = named ?? Object.values(HOURS)[Math.floor(random() * 4)];
  const has = Object.fromEntries(Object.entries(THINGS).map(([thing, pattern]) => [thing, pattern.test(words)]));
  const noise = makeNoise(random);
  const horizon = has.sea ? 0.6 + 0.06 * random() : 0.8;
  const side = random() < 0.5 ? 0.3 : 0.7;

  return {
    hour, has, noise, horizon, aspect,
    sun: { u: aspect * (1 - side) + 0.1 * (random() - 0.5), v: horizon - 0.2 - 0.16 * random(), radius: 0.05 + 0.025 * random() },
    cloudiness: 0.42 + 0.16 * random(),
    ridges: Array.from({ length: has.sea ? 2 : 4 }, (_, index, all = has.sea ? 2 : 4) => ({
      depth: (index + 1) / all,
      base: horizon - (has.sea ? 0.03 : 0.3 - 0.28 * (index / all)),
      rise: (has.sea ? 0.1 : 0.3) * (1 - 0.55 * (index / all)),
      frequency: 1.3 + index * 0.8,
      offset: 100 * random(),
    })),
    lighthouse: { u: aspect * side, foot: horizon + 0.1, height: 0.42, tilt: random() },
    boat: { u: aspect * (1 - side) + 0.12, v: horizon + 0.12, size: 0.11 },
    pines: Array.from({ length: 26 }, () => ({ u: aspect * random(), foot: 0.93 + 0.12 * random(), height: 0.16 + 0.24 * random() })),
  };
}

function colourAt(scene, u, v) {
  let colour = landscapeAt(scene, u, v);
  if (scene.has.sea && v > scene.horizon)
    colour = seaAt(scene, u, v);
  if (scene.has.boat)
    colour = boatAt(scene, u, v) ?? colour;
  if (scene.has.lighthouse)
    colour = lighthouseAt(scene, u, v, colour);
  if (scene.has.forest)
    colour = pinesAt(scene, u, v) ?? colour;
  const stroke = 1 + 0.1 * (scene.noise.layered(u * 26, v * 44, 2) - 0.5);
  return colour.map((value) => value * stroke);
}

function landscapeAt(scene, u, v) {
  let colour = skyAt(scene, u, v);
  for (const ridge of scene.ridges) {
    const peak = 1 - Math.abs(2 * scene.noise.layered(u * ridge.frequency + ridge.offset, ridge.offset, 5) - 1);
    const top = ridge.base - ridge.rise * (peak - 0.45);
    if (v > top)
      colour = rockAt(scene, ridge, u, v, top);
  }
  return colour;
}

function skyAt({ hour, sun, noise, horizon, cloudiness }, u, v) {
  const fall = Math.min(1, v / horizon);
  let colour = fall < 0.6 ? mix(hour.top, hour.middle, fall / 0.6) : mix(hour.middle, hour.low, (fall - 0.6) / 0.4);
  if (hour === HOURS.night && noise.point(Math.floor(u * 170), Math.floor(v * 170)) > 0.994)
    colour = mix(colour, [255, 255, 240], 0.8 * (1 - fall));

  const distance = Math.hypot(u - sun.u, v - sun.v) / sun.radius;
  colour = mix(colour, hour.light, 0.55 * Math.exp(-0.45 * Math.max(0, distance - 1)));
  if (distance < 1)
    colour = hour.light;

  const cloud = noise.layered(u * 2.4 + 7, v * 7.5, 5);
  return mix(colour, mix(hour.light, hour.low, 0.4), 0.75 * smooth(cloudiness + 0.06, cloudiness + 0.26, cloud) * (1 - 0.4 * fall));
}

function rockAt({ hour, has, noise }, ridge, u, v, top) {
  const shade = 0.75 + 0.5 * noise.layered(u * 14 + ridge.offset, v * 22, 4);
  let colour = mix(hour.far, hour.near, 0.85 * ridge.depth ** 1.2).map((value) => value * shade);
  const snowline = 0.12 * noise.layered(u * 26, v * 9, 4) ** 1.5 + 0.02;
  if (has.snow && ridge.depth < 0.8 && v < top + snowline)
    colour = mix([250, 248, 252], hour.far, 0.08 + 0.5 * smooth(0.85, 1.15, shade));
  return mix(colour, hour.low, 0.32 * smooth(0, 0.3, v - top) * (1 - ridge.depth));
}

function seaAt(scene, u, v) {
  const { hour, sun, noise, horizon } = scene;
  const depth = (v - horizon) / (1 - horizon);
  const wave = noise.layered(u * (5 + 7 / (depth + 0.12)), v * 90, 3) - 0.5;
  const mirrored = landscapeAt(scene, u + 0.1 * wave * (0.2 + depth), horizon - (v - horizon) * 0.9 + 0.05 * wave);
  const water = mix(mirrored, hour.near, 0.22 + 0.4 * depth);
  const glint = Math.exp(-(((u - sun.u) / (0.05 + 0.12 * depth)) ** 2)) * smooth(0.06, 0.2, wave);
  return mix(water, hour.light, 0.85 * glint);
}

function lighthouseAt({ hour, noise, lighthouse }, u, v, behind) {
  const across = u - lighthouse.u;
  const up = (lighthouse.foot - v) / lighthouse.height;
  const rock = 0.03 - 0.85 * Math.max(0, Math.abs(across) - 0.05) + 0.08 * noise.layered(u * 12, 3, 4);
  const halfWidth = 0.034 - 0.014 * up;
  const sunlit = 1.08 - 0.35 * smooth(-halfWidth, halfWidth, across);

  if (up > 0.88 && up < 0.97 && Math.abs(across) < 0.015)
    return [255, 244, 190];
  if (up >= 0.97 && up < 1.06 && Math.abs(across) < 0.022 * (1.06 - up) / 0.09)
    return [96, 26, 30];
  if (up > 0.84 && up <= 0.88 && Math.abs(across) < 0.028)
    return [52, 46, 52];
  if (up > 0 && up <= 0.84 && Math.abs(across) < halfWidth)
    return (Math.floor(up * 7) % 2 ? [186, 50, 48] : [238, 232, 222]).map((value) => value * sunlit);
  if (lighthouse.foot - v < rock)
    return mix(hour.near, hour.far, noise.layered(u * 22, v * 22, 3) - 0.1);
  const glow = Math.exp(-Math.hypot(across, v - lighthouse.foot + 0.925 * lighthouse.height) / 0.05);
  return mix(behind, [255, 240, 190], hour === HOURS.day ? 0 : 0.75 * glow);
}

function boatAt({ hour, boat }, u, v) {
  const x = (u - boat.u) / boat.size;
  const y = (boat.v - v) / boat.size;
  if (y > -0.18 && y < 0.04 && Math.abs(x) < 0.55 + 0.5 * y)
    return mix(hour.near, [120, 62, 40], 0.6);
  if (y > 0.1 && y < 1.25 && x > 0.04 && x < 0.04 + 0.5 * (1 - y / 1.25))
    return mix(hour.light, hour.low, 0.25);
  if (y > 0.1 && y < 1.05 && x < -0.02 && x > -0.02 - 0.34 * (1 - y / 1.05))
    return mix(hour.low, hour.far, 0.25);
  return Math.abs(x - 0.01) < 0.02 && y > 0 && y < 1.32 ? hour.near : null;
}

function pinesAt({ hour, noise, pines }, u, v) {
  for (const pine of pines) {
    const down = (v - (pine.foot - pine.height)) / pine.height;
    if (down <= 0 || down > 1)
      continue;
    const tier = (down * 6) % 1;
    const half = pine.height * (0.05 + 0.19 * down) * (0.5 + 0.5 * tier);
    if (Math.abs(u - pine.u) < half)
      return mix(hour.near, hour.far, 0.3 * noise.layered(u * 40, v * 40, 2)).map((value) => value * 0.75);
  }
  return null;
}

/** Value noise, 0..1: `point` at a lattice place, `layered` as a sum of octaves. */
function makeNoise(random) {
  const table = Float64Array.from({ length: 4096 }, random);
  const point = (x, y) => table[(Math.imul(x, 374761393) ^ Math.imul(y, 668265263) ^ (x >>> 3)) & 4095];
  const single = (x, y) => {
    const left = Math.floor(x), top = Math.floor(y);
    const s = (x - left) ** 2 * (3 - 2 * (x - left)), t = (y - top) ** 2 * (3 - 2 * (y - top));
    const upper = point(left, top) * (1 - s) + point(left + 1, top) * s;
    const lower = point(left, top + 1) * (1 - s) + point(left + 1, top + 1) * s;
    return upper * (1 - t) + lower * t;
  };
  const layered = (x, y, octaves) => {
    let sum = 0, weight = 0;
    for (let octave = 0, size = 1; octave < octaves; octave++, size /= 2) {
      sum += size * single(x / size + octave * 17, y / size + octave * 31);
      weight += size;
    }
    return sum / weight;
  };
  return { point, layered };
}

function mix(one, other, share) {
  return one.map((value, channel) => value + (other[channel] - value) * share);
}

function smooth(from, to, value) {
  const t = Math.max(0, Math.min(1, (value - from) / (to - from)));
  return t * t * (3 - 2 * t);
}

/** FNV-1a, 32 bits. */
function hash(text) {
  let value = 0x811c9dc5;
  for (const byte of Buffer.from(text))
    value = Math.imul(value ^ byte, 0x01000193);
  return value;
}

/** A small generator of numbers 0..1, the same for the same seed. */
function mulberry32(state) {
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let value = Math.imul(state ^ (state >>> 15), 1 | state);
    value = (value + Math.imul(value ^ (value >>> 7), 61 | value)) ^ value;
    return ((value ^ (value >>> 14)) >>> 0) / 2 ** 32;
  };
}
