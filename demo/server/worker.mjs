// Owns everything that is heavy on pixels: the network, the codecs and the drawing. Runs in a thread of its own, so that
// the thread that speaks HTTP stays free. One message is one call; calls are done in the order they came.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { parentPort } from 'node:worker_threads';
import tf from '@tensorflow/tfjs-core';
import { loadLayersModel } from '@tensorflow/tfjs-layers';
import { setWasmPaths } from '@tensorflow/tfjs-backend-wasm';
import { decodePicture, encodePicture } from './codec.mjs';
import { drawScene } from './scene.mjs';

const require = createRequire(import.meta.url);

/** The network with the weights of its package. Nothing is fetched: a file is read and handed over in memory. */
async function loadNetwork() {
  const folder = join(dirname(require.resolve('@upscalerjs/default-model')), '../../../../../models');
  const description = JSON.parse(readFileSync(join(folder, 'model.json'), 'utf8'));
  const [{ paths, weights }] = description.weightsManifest;
  const bytes = readFileSync(join(folder, paths[0]));

  setWasmPaths(dirname(require.resolve('@tensorflow/tfjs-backend-wasm')) + '/');
  await tf.setBackend('wasm');
  return loadLayersModel({
    load: async () => ({
      modelTopology: description.modelTopology,
      weightSpecs: weights,
      weightData: bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength),
    }),
  });
}

/** The picture twice as wide and high. The network takes and gives 0..255. */
async function enlarge({ width, height, rgb }) {
  const output = tf.tidy(() => {
    const input = tf.tensor4d(Float32Array.from(rgb), [1, height, width, 3]);
    return network.predict(input);
  });
  const values = await output.data();
  output.dispose();
  return { width: 2 * width, height: 2 * height, rgb: Uint8Array.from(Uint8ClampedArray.from(values)) };
}

const calls = { enlarge, decode: decodePicture, encode: encodePicture, draw: drawScene };
const network = await loadNetwork();
await enlarge({ width: 8, height: 8, rgb: new Uint8Array(8 * 8 * 3) });

parentPort.on('message', async ({ id, call, argument }) => {
  try {
    parentPort.postMessage({ id, value: await calls[call](argument) });
  } catch (error) {
    parentPort.postMessage({ id, error: { message: error.message, badInput: error.badInput === true } });
  }
});
parentPort.postMessage({ ready: true });
