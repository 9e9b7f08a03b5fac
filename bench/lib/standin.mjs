// The stand-in GenAI server: where all contestants send the same requests.
export const url = process.env.BENCH_STANDIN;
export const path = '/v1/chat/completions';

/** What is asked for as job `id`; with a latency it is answered so many ms later. */
export function request(id, latency) {
  const body = { model: 'bench', messages: [{ role: 'user', content: `job ${id}` }] };
  return latency ? { ...body, standin: { latency_ms: latency } } : body;
}

/** The same in SQL, of an expression that is the id. */
export function requestSql(id, latency) {
  const script = latency ? `, "standin": {"latency_ms": ${latency}}` : '';
  return `('{"model": "bench", "messages": [{"role": "user", "content": "job ' || ${id} || '"}]${script}}')::jsonb`;
}

export const reset = () => fetch(`${url}/_standin/reset`, { method: 'POST' });
export const counts = async () => (await fetch(`${url}/_standin/counts?summary=1`)).json();
