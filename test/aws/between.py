#!/usr/bin/python3
"""
between.py FOLDER [PORT]

Stands between genjob and a real object store, and fails to order, for tests. FOLDER/port has its port when it answers.
It passes calls on as they are, so that the store checks their signatures.

    PUT /_set       JSON: {"target": PORT} of the store; {"rules": [RULE, ...]}
    GET /_log       what has been asked, a line for each: KIND METHOD PATH STATUS; 0: the connection ended without a status
    GET /_waiting   what is held back now, in the same form without a status

KIND is begin, part, parts, complete, abort or open for the calls of uploads, else put, get, head, delete, copy or list.

The first RULE whose "match", a pattern, is found in "KIND METHOD PATH" changes the call. With "does" the store gets it
first. Then "hold": SECONDS passes, "status" answers with that status instead, and "close": true ends the connection
without an answer. "cut": true ends it within the answer's headers. "times": N calls, and then no more; "after": N calls
pass before.
"""
import ctypes
import http.client
import json
import os
import re
import signal
import sys
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

lock = threading.Lock()
knobs = {'target': None, 'rules': []}
log = []
waiting = []


def kind_of(method, path, headers):
    path, _, query = path.partition('?')
    arguments = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
    if 'uploads' in arguments:
        return 'begin' if method == 'POST' else 'open'
    if 'uploadId' in arguments:
        return {'PUT': 'part', 'POST': 'complete', 'GET': 'parts', 'DELETE': 'abort'}.get(method, '?')
    if method == 'GET' and path.count('/') == 1:
        return 'list'
    return 'copy' if 'X-Amz-Copy-Source' in headers else method.lower()


class Between(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def log_message(self, *_):
        pass

    def say(self, status, body=b'', headers=()):
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        if 'content-length' not in [name.lower() for name, _ in headers]:
            self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(body)

    def find_rule(self, call):
        with lock:
            for rule in knobs['rules']:
                if rule.get('times', 1) < 1 or not re.search(rule['match'], call):
                    continue
                if rule.get('after', 0) > 0:
                    rule['after'] -= 1
                    continue
                if 'times' in rule:
                    rule['times'] -= 1
                return rule
        return {}

    def ask_store(self, body):
        store = http.client.HTTPConnection('127.0.0.1', knobs['target'], timeout=120)
        store.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in ('connection', 'expect'):
                store.putheader(name, value)
        store.endheaders(body if body else None)
        reply = store.getresponse()
        answer = reply.read()
        headers = [(name, value) for name, value in reply.getheaders()
                   if name.lower() not in ('connection', 'transfer-encoding')]
        store.close()
        return reply.status, answer, headers

    def note(self, call, status):
        with lock:
            log.append('%s %d' % (call, status))

    def hold(self, call, seconds):
        with lock:
            waiting.append(call)
        time.sleep(seconds)
        with lock:
            waiting.remove(call)

    def handle_call(self):
        body = self.rfile.read(int(self.headers.get('Content-Length') or 0))
        if self.path == '/_set':
            with lock:
                knobs.update(json.loads(body))
            return self.say(200)
        if self.path in ('/_log', '/_waiting'):
            with lock:
                return self.say(200, ''.join(line + '\n' for line in (log if self.path == '/_log' else waiting)).encode())
        call = '%s %s %s' % (kind_of(self.command, self.path, self.headers), self.command, self.path)
        rule = self.find_rule(call)
        answer = (rule.get('status', 0), b'', [])
        try:
            if not rule or rule.get('does'):
                answer = self.ask_store(body)
            if 'hold' in rule:
                self.hold(call, rule['hold'])
            if not rule or not ({'status', 'close', 'cut'} & set(rule)):
                answer = answer if answer[0] else self.ask_store(body)
                self.note(call, answer[0])
                return self.say(*answer)
        except (OSError, http.client.HTTPException):
            rule = {'close': True}
        if rule.get('close') or rule.get('cut'):
            self.note(call, 0)
            self.close_connection = True
            if rule.get('cut'):
                self.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: ')
            return None
        self.note(call, rule['status'])
        text = '<?xml version="1.0"?><Error><Code>%s</Code><Message>as ordered</Message></Error>'
        code = {403: 'AccessDenied', 404: 'NoSuchUpload', 503: 'SlowDown', 500: 'InternalError'}.get(rule['status'], 'Ordered')
        return self.say(rule['status'], (text % code).encode(), [('Content-Type', 'application/xml')])

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = handle_call


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_):
        pass


ctypes.CDLL(None).prctl(1, signal.SIGKILL)    # PR_SET_PDEATHSIG
folder = os.path.abspath(sys.argv[1])
server = Server(('127.0.0.1', int(sys.argv[2]) if len(sys.argv) > 2 else 0), Between)
with open(os.path.join(folder, 'port.new'), 'w') as ready:
    ready.write(str(server.server_port))
os.rename(os.path.join(folder, 'port.new'), os.path.join(folder, 'port'))
server.serve_forever()
