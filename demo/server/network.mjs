// Owns the worker thread: the calls of worker.mjs as promises.
import { Worker } from 'node:worker_threads';
import { badInput } from './codec.mjs';

export class Network {
  #worker;
  #pending = new Map();
  #nextId = 1;

  /** A network that has loaded its weights and run once. */
  static async open() {
    const network = new Network();
    await network.#start();
    return network;
  }

  /** The picture twice as wide and high. */
  enlarge(picture) { return this.#call('enlarge', picture); }

  /** { width, height, rgb } of a PNG or JPEG file; rejects with `badInput` set if it is none. */
  decode(bytes) { return this.#call('decode', bytes); }

  /** The bytes of { width, height, rgb, format, quality } as a file. */
  encode(picture) { return this.#call('encode', picture); }

  /** The procedural drawing of { prompt, seed, width, height }. */
  draw(scene) { return this.#call('draw', scene); }

  close() { return this.#worker.terminate(); }

  /** A worker that dies later takes the process with it: there is nothing to serve without it. */
  #start() {
    this.#worker = new Worker(new URL('./worker.mjs', import.meta.url));
    return new Promise((resolve, reject) => {
      let ready = false;
      this.#worker.on('error', (error) => {
        if (ready)
          throw error;
        reject(error);
      });
      this.#worker.on('message', (message) => {
        if (!message.ready)
          return this.#settle(message);
        ready = true;
        resolve();
      });
    });
  }

  #call(call, argument) {
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve, reject });
      this.#worker.postMessage({ id, call, argument });
    });
  }

  #settle({ id, value, error }) {
    const { resolve, reject } = this.#pending.get(id);
    this.#pending.delete(id);
    if (!error)
      resolve(value);
    else
      reject(error.badInput ? badInput(error.message) : new Error(error.message));
  }
}
