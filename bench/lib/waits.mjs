// How long jobs wait from their commit until their server has the request, one at a time.
import { quantile, sleep } from './numbers.mjs';

const pause = () => sleep(5 + Math.random() * 10);

/** The p99 of so many waits, ms, of jobs of the server "bench", which is the listener. */
export async function measureWaits(contestant, listener, samples) {
  const waits = [];
  for (let id = -10; id < samples; id++) {
    let committed;
    const arrival = listener.next();
    await contestant.enqueueOne(id, () => { committed = performance.now(); });
    const waited = (await arrival) - committed;
    if (id >= 0)
      waits.push(waited);
    await pause();
  }
  return quantile(waits, 0.99);
}
