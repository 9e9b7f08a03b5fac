#!/usr/bin/python3
"""
fakestore.py FOLDER [PORT]

An object store that fails to order, for tests: it checks no signature. FOLDER/port has its port when it answers. Every
bucket is there. Objects stay in FOLDER for the next start; uploads do not.

    PUT /_set       JSON: {"refuse": [STATUS, CODE]} answers every call so, null ends that; {"skew": SECONDS} is how far
                    its clock is ahead, and with it RequestTimeTooSkewed for calls that were signed 15 minutes away from it;
                    {"delay": SECONDS} before an object is read; {"part_delay": SECONDS} before a part is taken;
                    {"tag": TEXT} is the ETag of what is put from now on; {"values": N} answers what is put with a list of so many numbers;
                    {"parts": N} has every open upload have so many parts of 8 MB, whatever was sent;
                    {"part_tag": TEXT} is the ETag of parts from now on, with its quotation marks;
                    {"begun": SECONDS} is how long ago each open upload was begun, as a list says;
                    {"key": ID} refuses calls that are not signed with this access_key_id, null ends that;
                    {"page": N} has a list of open uploads give so many at a time;
                    {"rules": [RULE, ...]} answers calls, see below
    GET /_log       what has been asked, a line for each: METHOD, path with query, status
    GET /_headers   the headers of the last PUT of an object, as JSON; GET /_read those of the last GET or HEAD
    GET /_complete  the body of the last call that made an object of parts
    GET /_uploads   the /BUCKET/KEY of each open upload, a line for each; GET /_objects those of each object

An upload in parts keeps its parts; ListParts gives pages of 1,000.

The first RULE whose "match", a pattern, is found in "METHOD PATH" changes the answer: "status", "headers", "body";
"filler": N more bytes of body; "cut": the connection ends N bytes before the end that Content-Length gives. With
"does" the store does what was asked; without it, it does nothing. "times": N calls, and then no more.
"""
import ctypes
import datetime
import email.utils
import hashlib
import json
import os
import pickle
import re
import signal
import sys
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

lock = threading.Lock()
knobs = {'refuse': None, 'skew': 0, 'delay': 0, 'part_delay': 0, 'tag': None, 'parts': 0, 'values': 0, 'rules': [],
         'part_tag': None, 'begun': 0, 'page': 1000,
         'key': None}
objects = {}
made = {}  # of objects since the start: bytes, when
uploads = {}
keys = {}  # of uploads
begun = [0]
log = []
last_put = {}
last_read = {}
last_complete = []


def keep():
    with lock, open(kept, 'wb') as file:
        pickle.dump(objects, file)


class Store(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def log_message(self, *_):
        pass

    def date_time_string(self, timestamp=None):
        return email.utils.formatdate(time.time() + knobs['skew'], usegmt=True)

    def answer(self, status, body=b'', headers=()):
        if self.rule is not None:
            status = self.rule.get('status', status)
            headers = [*headers, *self.rule.get('headers', {}).items()]
            body = self.rule.get('body', body.decode()).encode() + b'x' * self.rule.get('filler', 0)
        if not self.path.startswith('/_'):
            with lock:
                log.append('%s %s %d' % (self.command, self.path, status))
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if self.command != 'HEAD':
            self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        if self.command != 'HEAD':
            cut = self.rule.get('cut', 0) if self.rule is not None else 0
            self.wfile.write(body[:len(body) - cut])
            self.close_connection |= cut > 0

    def find_rule(self):
        """Returns the rule for this call, or None."""
        with lock:
            for rule in knobs['rules']:
                if rule.get('times', 1) > 0 and re.search(rule['match'], '%s %s' % (self.command, self.path)):
                    if 'times' in rule:
                        rule['times'] -= 1
                    return rule
        return None

    def refuse(self, status, code):
        self.answer(status, ('<?xml version="1.0"?><Error><Code>%s</Code><Message>as ordered</Message></Error>' % code).encode(),
                    [('Content-Type', 'application/xml')])

    def is_skewed(self):
        signed = self.headers.get('X-Amz-Date')
        if not signed:
            return False
        then = datetime.datetime.strptime(signed, '%Y%m%dT%H%M%SZ').replace(tzinfo=datetime.timezone.utc).timestamp()
        return abs(then - time.time() - knobs['skew']) > 900

    def handle_call(self):
        self.rule = None
        body = self.rfile.read(int(self.headers.get('Content-Length') or 0))
        path, _, query = self.path.partition('?')
        arguments = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        key = urllib.parse.unquote(path)
        if path == '/_set':
            knobs.update(json.loads(body))
            return self.answer(200)
        if path == '/_log':
            with lock:
                return self.answer(200, ''.join(line + '\n' for line in log).encode())
        if path == '/_complete':
            return self.answer(200, b''.join(last_complete))
        if path in ('/_uploads', '/_objects'):
            with lock:
                return self.answer(200, ''.join(sorted(name + '\n' for name in (keys.values() if path == '/_uploads' else objects))).encode())
        if path in ('/_headers', '/_read'):
            return self.answer(200, json.dumps(last_put if path == '/_headers' else last_read).encode())
        if knobs['refuse']:
            return self.refuse(*knobs['refuse'])
        if knobs['key'] and 'Credential=%s/' % knobs['key'] not in self.headers.get('Authorization', ''):
            return self.refuse(403, 'InvalidAccessKeyId')
        self.rule = self.find_rule()
        if self.rule is not None and not self.rule.get('does'):
            return self.answer(200)
        if self.is_skewed():
            return self.refuse(403, 'RequestTimeTooSkewed')
        if 'uploads' in arguments or 'uploadId' in arguments:
            return self.upload(key, arguments, body)
        return getattr(self, 'object_' + self.command.lower())(key, body)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = handle_call

    def note(self, headers):
        headers.clear()
        headers.update({name.lower(): value for name, value in self.headers.items()})

    def object_get(self, key, _):
        self.note(last_read)
        found = objects.get(key)
        time.sleep(knobs['delay'])
        if found is None:
            return self.refuse(404, 'NoSuchKey')
        headers = [('ETag', found[1]), ('Content-Type', found[2])]
        size, then = made.get(key, (len(found[0]), 0))
        if self.command == 'HEAD' and self.rule is None:
            headers += [('Content-Length', str(size)), ('Last-Modified', email.utils.formatdate(then, usegmt=True))]
        return self.answer(200, found[0], headers)

    object_head = object_get

    def object_put(self, key, body):
        self.note(last_put)
        objects[key] = (body, '"%s"' % (knobs['tag'] or hashlib.md5(body).hexdigest()),
                        self.headers.get('Content-Type', 'binary/octet-stream'))
        made[key] = (len(body), time.time() + knobs['skew'])
        keep()
        values = json.dumps([1] * knobs['values']).encode() if knobs['values'] else b''
        return self.answer(200, values, [('ETag', objects[key][1])])

    def object_delete(self, key, _):
        objects.pop(key, None)
        return self.answer(204)

    def list_uploads(self, bucket, arguments):
        then = datetime.datetime.fromtimestamp(time.time() - knobs['begun'], datetime.timezone.utc).strftime('%Y-%m-%dT%H:%M:%SZ')
        start = bucket.rstrip('/') + '/'
        marker = (arguments.get('key-marker', ''), arguments.get('upload-id-marker', ''))
        with lock:
            found = sorted((key[len(start):], number) for number, key in keys.items()
                           if key.startswith(start + arguments.get('prefix', '')))
        found = [one for one in found if one > marker and (marker[1] or one[0] != marker[0])]
        page = found[:knobs['page']]
        text = ''.join('<Upload><Key>%s</Key><UploadId>%s</UploadId><Initiated>%s</Initiated></Upload>' % (*one, then) for one in page)
        if len(page) < len(found):
            text = '<NextKeyMarker>%s</NextKeyMarker><NextUploadIdMarker>%s</NextUploadIdMarker>' % page[-1] + text
        return self.answer(200, ('<ListMultipartUploadsResult><IsTruncated>%s</IsTruncated>%s</ListMultipartUploadsResult>'
                                 % ('true' if len(page) < len(found) else 'false', text)).encode())

    def upload(self, key, arguments, body):
        number = arguments.get('uploadId')
        if self.command == 'POST' and 'uploads' in arguments:
            with lock:
                begun[0] += 1
                number = 'upload-%d' % begun[0]
                uploads[number] = {}
                keys[number] = key
            return self.answer(200, ('<InitiateMultipartUploadResult><UploadId>%s</UploadId></InitiateMultipartUploadResult>'
                                     % number).encode())
        if self.command == 'GET' and 'uploads' in arguments:
            return self.list_uploads(key, arguments)
        if keys.get(number) != key:
            return self.refuse(404, 'NoSuchUpload')
        parts = uploads[number]
        if self.command == 'PUT':
            time.sleep(knobs['part_delay'])
            digest = hashlib.md5(body).hexdigest()
            parts[int(arguments['partNumber'])] = (len(body), digest, body if len(body) < 1 << 20 else None)
            return self.answer(200, b'', [('ETag', knobs['part_tag'] or '"%s"' % digest)])
        if self.command == 'GET':
            for n in range(1, knobs['parts'] + 1):
                parts.setdefault(n, (8 << 20, '%032x' % n, None))
            after = int(arguments.get('part-number-marker') or 0)
            page = [n for n in sorted(parts) if n > after][:1000]
            more = bool(page) and page[-1] < max(parts)
            text = ''.join('<Part><PartNumber>%d</PartNumber><ETag>"%s"</ETag><Size>%d</Size></Part>' % (n, parts[n][1], parts[n][0])
                           for n in page)
            if more:
                text += '<NextPartNumberMarker>%d</NextPartNumberMarker>' % page[-1]
            return self.answer(200, ('<ListPartsResult><IsTruncated>%s</IsTruncated>%s</ListPartsResult>'
                                     % ('true' if more else 'false', text)).encode())
        if self.command == 'DELETE':
            del uploads[number], keys[number]
            return self.answer(204)
        last_complete[:] = [body]
        objects[key] = (b'', '"%s-%d"' % (hashlib.md5(body).hexdigest(), len(parts)), 'image/png')
        made[key] = (sum(part[0] for part in parts.values()), time.time() + knobs['skew'])
        del uploads[number], keys[number]
        return self.answer(200, ('<CompleteMultipartUploadResult><ETag>%s</ETag></CompleteMultipartUploadResult>'
                                 % objects[key][1]).encode())


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
folder = os.path.abspath(sys.argv[1])
kept = os.path.join(folder, 'objects')
if os.path.exists(kept):
    with open(kept, 'rb') as left:
        objects.update(pickle.load(left))
server = Server(('127.0.0.1', int(sys.argv[2]) if len(sys.argv) > 2 else 0), Store)
with open(os.path.join(folder, 'port.new'), 'w') as ready:
    ready.write(str(server.server_port))
os.rename(os.path.join(folder, 'port.new'), os.path.join(folder, 'port'))
server.serve_forever()
