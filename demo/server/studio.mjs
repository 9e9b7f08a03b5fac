// Owns the order of work: one task at a time, a task's pictures one after the other, a picture tile by tile. Between two
// tiles there is a place to count, to stop and to answer. Knows no HTTP.

/** How far a pixel of the network's answer looks, in input pixels: 3x3 six times, 5x5 once, 3x3 after doubling; rounded up. */
export const HALO = 12;

/** What a task throws when its client has gone away. */
export class Abandoned extends Error {}

export class Studio {
  #network;
  #tile;
  #running = null;
  #waiting = [];

  constructor(network, tile) {
    this.#network = network;
    this.#tile = tile;
  }

  get running() { return this.#running; }
  get queued() { return this.#waiting.length; }

  /** 1 for the task whose turn is next; 0 for one that does not wait. */
  place(task) { return this.#waiting.findIndex((turn) => turn.task === task) + 1; }

  /**
   * Enlarges a task's pictures when its turn has come. `sources` are functions that give { width, height, rgb }; they are
   * called as late as possible. Ends early, with what is done, if `task.interrupt()` was called; rejects with Abandoned if
   * the signal was raised.
   */
  async run(task, sources, scale, signal) {
    await this.#takeTurn(task, signal);
    try {
      task.begin();
      for (const source of sources) {
        if (task.interrupted)
          break;
        const picture = await source();
        task.expect(tileCount(picture, scale, this.#tile), sources.length);
        task.pictures.push(await this.#enlarge(task, picture, scale, signal));
      }
      return task.pictures;
    } finally {
      this.#endTurn();
    }
  }

  async #takeTurn(task, signal) {
    if (signal.aborted)
      throw new Abandoned();
    if (!this.#running) {
      this.#running = task;
      return;
    }
    await new Promise((resolve, reject) => {
      const turn = { task, resolve };
      this.#waiting.push(turn);
      signal.addEventListener('abort', () => {
        this.#waiting = this.#waiting.filter((other) => other !== turn);
        reject(new Abandoned());
      }, { once: true });
    });
  }

  #endTurn() {
    const next = this.#waiting.shift();
    this.#running = next ? next.task : null;
    next?.resolve();
  }

  async #enlarge(task, picture, scale, signal) {
    let result = picture;
    for (let factor = 1; factor < scale; factor *= 2)
      result = await this.#double(task, result, signal);
    return result;
  }

  /** One pass of the network. Tiles not reached by an interrupted task keep the nearest pixel. */
  async #double(task, picture, signal) {
    const canvas = doubleNearest(picture);
    task.canvas = canvas;
    for (const tile of tilesOf(picture, this.#tile)) {
      if (signal.aborted)
        throw new Abandoned();
      if (task.interrupted)
        break;
      const answer = await this.#network.enlarge(cut(picture, tile));
      paste(canvas, answer, tile);
      task.tilesDone++;
    }
    return canvas;
  }
}

/** One request's work: what is asked to stop, and what is asked how far it is. */
export class Task {
  startedAt = null;
  tilesDone = 0;
  interrupted = false;
  pictures = [];
  canvas = null;
  #tilesKnown = 0;
  #picturesKnown = 0;
  #pictureCount = 1;

  constructor(pictureCount = 1) { this.#pictureCount = pictureCount; }

  begin() { this.startedAt = Date.now(); }

  interrupt() { this.interrupted = true; }

  expect(tiles, pictureCount) {
    this.#tilesKnown += tiles;
    this.#picturesKnown++;
    this.#pictureCount = pictureCount;
  }

  get pictureCount() { return this.#pictureCount; }

  /** All tiles to do; a picture not looked at yet counts as the average of the others. */
  get tileCount() {
    return this.#picturesKnown === 0 ? 0 : Math.round((this.#tilesKnown / this.#picturesKnown) * this.#pictureCount);
  }

  /** 0..1 */
  get progress() { return this.tileCount === 0 ? 0 : this.tilesDone / this.tileCount; }
}

/** The tiles of a picture: what each covers, and the window with the halo around it, which may reach beyond the picture. */
export function tilesOf({ width, height }, size) {
  const tiles = [];
  for (let y = 0; y < height; y += size)
    for (let x = 0; x < width; x += size) {
      const right = Math.min(x + size, width);
      const bottom = Math.min(y + size, height);
      tiles.push({ x, y, right, bottom, window: { x: x - HALO, y: y - HALO, right: right + HALO, bottom: bottom + HALO } });
    }
  return tiles;
}

/** Twice as wide and high, each pixel four times. */
export function doubleNearest({ width, height, rgb }) {
  const doubled = { width: 2 * width, height: 2 * height, rgb: new Uint8Array(rgb.length * 4) };
  for (let y = 0, to = 0; y < doubled.height; y++)
    for (let x = 0; x < doubled.width; x++, to += 3) {
      const from = ((y >> 1) * width + (x >> 1)) * 3;
      doubled.rgb.set(rgb.subarray(from, from + 3), to);
    }
  return doubled;
}

function tileCount({ width, height }, scale, size) {
  let count = 0;
  for (let factor = 1; factor < scale; factor *= 2)
    count += Math.ceil((width * factor) / size) * Math.ceil((height * factor) / size);
  return count;
}

/** The pixels of a tile's window. Beyond the picture its edge goes on, for black would shine into the picture. */
function cut({ width, height, rgb }, { window }) {
  const piece = { width: window.right - window.x, height: window.bottom - window.y };
  piece.rgb = new Uint8Array(piece.width * piece.height * 3);
  for (let row = 0, to = 0; row < piece.height; row++) {
    const y = clamp(window.y + row, height - 1);
    for (let column = 0; column < piece.width; column++, to += 3) {
      const from = (y * width + clamp(window.x + column, width - 1)) * 3;
      piece.rgb.set(rgb.subarray(from, from + 3), to);
    }
  }
  return piece;
}

function clamp(value, most) {
  return Math.max(0, Math.min(most, value));
}

function paste(canvas, answer, { x, y, right, bottom, window }) {
  for (let row = 2 * y; row < 2 * bottom; row++) {
    const from = ((row - 2 * window.y) * answer.width + 2 * (x - window.x)) * 3;
    canvas.rgb.set(answer.rgb.subarray(from, from + 2 * (right - x) * 3), (row * canvas.width + 2 * x) * 3);
  }
}
