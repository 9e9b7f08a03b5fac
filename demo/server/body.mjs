// Owns how a request's body is read: JSON or multipart/form-data, never more than a fixed size.
import { Busboy } from '@fastify/busboy';

/** The largest body, and the largest file of a form. */
export const MAX_BODY_BYTES = 50 * 2 ** 20;
const MAX_FILES = 16;

/** An answer other than 200: what HTTP says, and what is wrong in words that help. */
export class Refusal extends Error {
  constructor(status, message, { code = null, param = null } = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.param = param;
  }
}

/** An answer that says 202: it will be done. */
export class Accepted {
  constructor(body) { this.body = body; }
}

/** The body as an object. */
export async function readJson(request) {
  const chunks = [];
  let size = 0;
  for await (const chunk of request.iterator({ destroyOnReturn: false })) {
    size += chunk.length;
    if (size > MAX_BODY_BYTES)
      throw tooLarge();
    chunks.push(chunk);
  }
  let body;
  try {
    body = JSON.parse(Buffer.concat(chunks).toString('utf8') || '{}');
  } catch (error) {
    throw new Refusal(400, `the body is not JSON: ${error.message}`, { code: 'invalid_json' });
  }
  if (body === null || typeof body !== 'object' || Array.isArray(body))
    throw new Refusal(400, 'the body is JSON, but not an object', { code: 'invalid_json' });
  return body;
}

/** A form as { fields: {name: text}, files: [{name, bytes}] }. */
export function readForm(request) {
  if (!/^multipart\/form-data\b/i.test(request.headers['content-type'] ?? ''))
    throw new Refusal(400, 'send the picture as multipart/form-data, in a part named "image"', { param: 'image' });
  return new Promise((resolve, reject) => {
    const form = { fields: Object.create(null), files: [] };
    const refuse = (refusal) => {
      request.unpipe(parser);
      request.resume();
      reject(refusal);
    };
    const malformed = (error) => refuse(new Refusal(400, `the form is malformed: ${error.message}`));
    let parser;
    try {
      parser = new Busboy({ headers: request.headers, limits: { fileSize: MAX_BODY_BYTES, files: MAX_FILES } });
    } catch (error) {
      reject(new Refusal(400, `the form is malformed: ${error.message}`));
      return;
    }
    parser.on('field', (name, value) => { form.fields[name] = value; });
    parser.on('file', (name, stream) => {
      const chunks = [];
      stream.on('error', malformed);
      stream.on('data', (chunk) => chunks.push(chunk));
      stream.on('limit', () => refuse(tooLarge()));
      stream.on('end', () => form.files.push({ name, bytes: Buffer.concat(chunks) }));
    });
    parser.on('filesLimit', () => refuse(new Refusal(400, `at most ${MAX_FILES} pictures are taken at a time`, { param: 'image' })));
    parser.on('error', malformed);
    parser.on('finish', () => resolve(form));
    request.on('aborted', () => reject(new Refusal(400, 'the request was cut off')));
    request.pipe(parser);
  });
}

/** The whole number of that name, within its bounds. Forms bring text. */
export function readInteger(body, name, fallback, least, most) {
  if (body[name] === undefined || body[name] === null || body[name] === '')
    return fallback;
  const value = Number(body[name]);
  if (!Number.isInteger(value) || value < least || value > most)
    throw new Refusal(422, `"${name}" is ${JSON.stringify(body[name])}; it must be a whole number from ${least} to ${most}`, { param: name });
  return value;
}

/** The text of that name; refuses what is missing, unless there is a fallback. */
export function readText(body, name, fallback) {
  const value = body[name] ?? fallback;
  if (typeof value !== 'string' || (fallback === undefined && value === ''))
    throw new Refusal(400, `"${name}" is missing or not text`, { code: 'missing_required_parameter', param: name });
  return value;
}

function tooLarge() {
  return new Refusal(413, `the body is larger than ${MAX_BODY_BYTES} bytes`, { code: 'request_too_large' });
}
