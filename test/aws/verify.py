#!/usr/bin/python3
"""
verify.py FOLDER

A server that looks at the signature of every request as AWS does, by AWS's own code (Debian's python3-botocore): it
signs what it got once more, and compares. 200 where that is the same, 403 and what it signed where not. The bytes of the
body must be those of the hash that was signed. Keys: AKIDEXAMPLE / secret+key/=. FOLDER/port has its port.
Exits with 77 where botocore is not installed.
"""
import ctypes
import hashlib
import http.server
import json
import os
import re
import signal
import sys

try:
    import botocore.auth
    import botocore.awsrequest
    import botocore.credentials
except ImportError as missing:
    print('skipped:', missing)
    sys.exit(77)

FIELDS = re.compile(r'AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/([^/]+)/aws4_request, '
                    r'SignedHeaders=([^,]+), Signature=([0-9a-f]{64})')


def sign(method, url, headers, body, match, token):
    key, _, region, service, names, _ = match.groups()
    credentials = botocore.credentials.Credentials(key, 'secret+key/=', token)
    s3 = service.startswith('s3')
    auth = (botocore.auth.S3SigV4Auth if s3 else botocore.auth.SigV4Auth)(credentials, service, region)
    request = botocore.awsrequest.AWSRequest(method=method, url=url, data=body)
    for name in names.split(';'):
        for value in headers.get_all(name) or []:
            request.headers.add_header(name, value)
    request.context['timestamp'] = headers['X-Amz-Date']
    request.context['payload_signing_enabled'] = True
    canonical = auth.canonical_request(request)
    return canonical, auth.signature(auth.string_to_sign(request, canonical), request)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    wbufsize = -1  # head and body leave together

    def judge(self, body):
        match = FIELDS.fullmatch(self.headers.get('Authorization', ''))
        if not match:
            return 'no signature'
        names = match.group(5).split(';')
        needed = {'host', 'x-amz-date'} | ({'content-type'} if body else set())
        needed |= {name.lower() for name in self.headers if name.lower().startswith('x-amz-')}
        if not needed <= set(names):
            return 'not signed: ' + ' '.join(sorted(needed - set(names)))
        claimed = self.headers.get('X-Amz-Content-SHA256')
        if claimed is not None and claimed != hashlib.sha256(body).hexdigest():
            return 'the body is another one'
        # not self.path: Python removes slashes from it
        url = 'http://' + self.headers['Host'] + self.requestline.split(' ')[1]
        token = self.headers.get('X-Amz-Security-Token')
        canonical, signature = sign(self.command, url, self.headers, body, match, token)
        return None if signature == match.group(6) else canonical

    def result(self):
        """What S3 says where it must say something, and genjob reads it."""
        if 'list-type=' in self.requestline:
            return '<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>'
        if 'x-amz-copy-source' in self.headers:
            return '<CopyObjectResult><ETag>"etag"</ETag></CopyObjectResult>'
        return json.dumps({'method': self.command})

    def answer(self):
        body = self.rfile.read(int(self.headers.get('Content-Length') or 0))
        problem = self.judge(body)
        text = (json.dumps({'error': problem}) if problem else self.result()).encode()
        self.send_response(403 if problem else 200)
        self.send_header('Content-Type', 'application/xml' if text.startswith(b'<') else 'application/json')
        if self.command == 'PUT':
            self.send_header('ETag', '"etag"')
        self.send_header('Content-Length', str(len(text)))
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(text)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do_PATCH = answer

    def log_message(self, *arguments):
        pass


PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
http.server.ThreadingHTTPServer.request_queue_size = 128
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
with open(os.path.join(sys.argv[1], 'port.new'), 'w') as ready:
    ready.write(str(server.server_address[1]))
os.rename(os.path.join(sys.argv[1], 'port.new'), os.path.join(sys.argv[1], 'port'))
server.serve_forever()
