// AWS Signature Version 4 of a PUT to an object store, with the digest of its bytes, as AWS's SDKs sign over http.
import { createHash, createHmac } from 'node:crypto';

const sha256 = (data) => createHash('sha256').update(data).digest('hex');
const hmac = (key, text) => createHmac('sha256', key).update(text).digest();

/** The headers to send with the body to a URL whose path needs no encoding. keys: id, secret and region. */
export function signedHeaders(url, body, keys, method = 'PUT') {
  const { host, pathname } = new URL(url);
  const date = new Date().toISOString().replace(/[-:]|\.\d+/g, '');
  const digest = sha256(body);
  const names = 'host;x-amz-content-sha256;x-amz-date';
  const canonical = [method, pathname, '', `host:${host}`, `x-amz-content-sha256:${digest}`, `x-amz-date:${date}`, '', names, digest].join('\n');
  const scope = [date.slice(0, 8), keys.region, 's3', 'aws4_request'];
  const key = scope.reduce(hmac, `AWS4${keys.secret}`);
  const signature = hmac(key, ['AWS4-HMAC-SHA256', date, scope.join('/'), sha256(canonical)].join('\n')).toString('hex');
  return { 'X-Amz-Content-SHA256': digest, 'X-Amz-Date': date,
    Authorization: `AWS4-HMAC-SHA256 Credential=${keys.id}/${scope.join('/')}, SignedHeaders=${names}, Signature=${signature}` };
}
