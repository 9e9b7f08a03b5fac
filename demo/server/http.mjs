// Owns the HTTP side: routes, keys, errors, and what happens when a client goes away.
import { timingSafeEqual } from 'node:crypto';
import { createServer } from 'node:http';
import { Accepted, Refusal } from './body.mjs';
import { MODEL, openaiError, openaiRoutes } from './openai.mjs';
import { sdapiError, sdapiRoutes } from './sdapi.mjs';
import { SdcppJobs, sdcppError, sdcppRoutes } from './sdcpp.mjs';
import { Abandoned } from './studio.mjs';

const routes = { 'GET /health': health, ...openaiRoutes, ...sdapiRoutes, ...sdcppRoutes };
const errors = [['/sdapi/', sdapiError], ['/sdcpp/', sdcppError], ['/', openaiError]];

/** A server that is not listening yet. Without an API key everybody may come in. `log` takes a line for each answer but to a
 * question that went well. */
export function createHttpServer({ network, studio, apiKey, log }) {
  const jobs = new SdcppJobs();
  const server = createServer(async (request, response) => {
    const url = splitUrl(request.url);
    const gone = new AbortController();
    const since = Date.now();
    response.on('close', () => {
      if (response.writableFinished)
        return;
      gone.abort();
      log(`${request.method} ${url.pathname} abandoned by its client after ${Date.now() - since} ms`);
    });

    const { status, headers, body } = await respond({ network, studio, jobs, apiKey, request, url, signal: gone.signal });
    if (gone.signal.aborted)
      return;
    if (status !== 200 || request.method !== 'GET') {
      const why = status < 300 ? '' : `: ${body.error?.message ?? body.detail ?? body.error}`;
      log(`${request.method} ${url.pathname} ${status} in ${Date.now() - since} ms${why}`);
    }
    const text = JSON.stringify(body);
    response.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text), ...headers });
    response.end(text);
  });
  server.keepAliveTimeout = 75_000;
  return server;
}

/** Never rejects: whatever goes wrong is an answer in the dialect of the path. */
async function respond(context) {
  const { request, url, apiKey } = context;
  try {
    const { handler, id } = findRoute(request.method, url.pathname);
    if (handler !== health)
      checkKey(request, apiKey);
    const answer = await handler({ ...context, id, start: (task) => describe(task, context) });
    return answer instanceof Accepted ? { status: 202, body: answer.body } : { status: 200, body: answer };
  } catch (error) {
    const refusal = error instanceof Refusal ? error : unexpected(error);
    const [, inDialect] = errors.find(([path]) => url.pathname.startsWith(path)) ?? errors.at(-1);
    request.resume();
    return { status: refusal.status, headers: refusal.headers, body: inDialect(refusal) };
  }
}

/** Path and query; whatever a client writes there, it does not raise. */
function splitUrl(text) {
  const [pathname] = text.split('?', 1);
  return { pathname, searchParams: new URLSearchParams(text.slice(pathname.length)) };
}

/** The handler of a path, and what the path has where the route says {id}. */
function findRoute(method, path) {
  const methods = [];
  for (const [route, handler] of Object.entries(routes)) {
    const [routeMethod, form] = route.split(' ');
    const id = matchPath(form, path);
    if (id !== null && routeMethod === method)
      return { handler, id };
    if (id !== null)
      methods.push(routeMethod);
  }
  if (methods.length === 0)
    throw new Refusal(404, `there is no ${path}; there are ${Object.keys(routes).join(', ')}`, { code: 'not_found' });
  throw Object.assign(new Refusal(405, `${path} takes ${methods.join(', ')}, not ${method}`), { headers: { allow: methods.join(', ') } });
}

/** What the path has in place of {id}; empty where the form has none; null if it is another path. */
function matchPath(form, path) {
  const [before, after] = form.split('{id}');
  if (after === undefined)
    return path === form ? '' : null;
  const id = path.slice(before.length, path.length - after.length);
  return path === before + id + after && /^[^/]+$/.test(id) ? id : null;
}

/** A bearer token; or, as the web UI's --api-auth has it, basic authentication by the whole "user:password". */
function checkKey(request, apiKey) {
  if (apiKey === undefined)
    return;
  const [, scheme, credentials] = /^(\S+) +(.*)$/.exec(request.headers.authorization ?? '') ?? [];
  const given = /^basic$/i.test(scheme) ? Buffer.from(credentials, 'base64').toString() : /^bearer$/i.test(scheme) ? credentials : '';
  if (!sameText(given, apiKey))
    throw new Refusal(401, given ? 'the API key is wrong' : 'the API key is missing: send "Authorization: Bearer KEY"', { code: 'invalid_api_key' });
}

function sameText(one, other) {
  const [first, second] = [Buffer.from(one), Buffer.from(other)];
  return first.length === second.length && timingSafeEqual(first, second);
}

function unexpected(error) {
  if (!(error instanceof Abandoned) && error.code !== 'ECONNRESET')
    console.error(error);
  return new Refusal(500, `the server failed: ${error.message}`);
}

/** What /health says of the task while it runs. */
function describe(task, { request, url }) {
  task.path = url.pathname;
  task.idempotencyKey = request.headers['idempotency-key'] ?? null;
  return task;
}

function health({ studio }) {
  const task = studio.running;
  return {
    status: 'ok',
    model: MODEL,
    busy: task !== null,
    queued: studio.queued,
    running: task && { path: task.path, idempotency_key: task.idempotencyKey, progress: task.progress },
  };
}
