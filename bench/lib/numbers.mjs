// Small arithmetic, and the ways in which figures are written.

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
export const seconds = () => performance.now() / 1000;
export const sum = (list) => list.reduce((a, b) => a + b, 0);

/** The value that the given share of the list does not exceed. */
export function quantile(list, share) {
  const sorted = [...list].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
}

export function median(list) {
  const sorted = [...list].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** The median of the quotients of rounds: what loaded the machine in one round loaded both. */
export const medianRatio = (above, below) => median(above.map((value, round) => value / below[round]));

/** 12345.6 as 12,346; small numbers with as many decimals as they need for two or three digits. */
export function figure(value) {
  const size = Math.abs(value);
  const decimals = size >= 100 || value === 0 ? 0 : size >= 10 ? 1 : 2;
  return value.toLocaleString('en-US', { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
}

export const perSecond = (value) => `${figure(value)} jobs/s`;

/** Waits until the condition holds; an error after so many seconds. */
export async function until(what, condition, { every = 20, within = 300 } = {}) {
  const end = seconds() + within;
  while (!(await condition())) {
    if (seconds() > end)
      throw new Error(`${what}: not within ${within} s`);
    await sleep(every);
  }
}
