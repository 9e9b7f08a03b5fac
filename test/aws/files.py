#!/usr/bin/python3
"""
files.py FOLDER

A server of large files, for tests. FOLDER/port has its port when it answers.

    GET /NAME/BYTES.png?OPTIONS    a file of so many bytes, other ones for each NAME
    GET /NAME/BYTES.sha256         its digest
    GET /log                       what has been asked, a line for each: NAME, Range, the status

OPTIONS, joined by "&":

    cut=N       the connection ends after N bytes of each of the first two answers
    cuts=M      ... of the first M answers
    tag=T       strong (as without it), weak, or none: of its ETag
    whole=1     ranges are not understood
    mute=1      If-Range is not understood, and a rest comes without an ETag
    change=N    from the N-th answer on it is another file, with another ETag
    part=N      the first N answers are the first half of the file, with 206
    chunked=1   how long it is is not told
    deny=N,M    the N-th answer and the M-th are 403: the link has expired
    rate=N      bytes a second
"""
import hashlib
import os
import sys
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MB = 1024 * 1024
lock = threading.Lock()
answers = {}
log = []


def megabyte(name, number):
    seed = hashlib.sha256(('%s %d' % (name, number)).encode()).digest()
    head = b'\x89PNG\r\n\x1a\n' if number == 0 else b'........'
    return head + seed[8:] + seed * (MB // 32 - 1)


def pieces(name, start, end):
    """The bytes of a file from start to end."""
    at = start
    while at < end:
        number, offset = divmod(at, MB)
        piece = megabyte(name, number)[offset:offset + end - at]
        yield piece
        at += len(piece)


class Files(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def log_message(self, *_):
        pass

    def say(self, text):
        body = text.encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        path, _, query = self.path.partition('?')
        if path == '/log':
            with lock:
                self.say(''.join(line + '\n' for line in log))
            return
        name, file = urllib.parse.unquote(path).lstrip('/').split('/')
        size, _, kind = file.partition('.')
        if kind == 'sha256':
            digest = hashlib.sha256()
            for piece in pieces(name, 0, int(size)):
                digest.update(piece)
            self.say(digest.hexdigest())
            return
        self.send_file(name, int(size), dict(urllib.parse.parse_qsl(query)))

    def send_half(self, content, size):
        self.send_response(206)
        self.send_header('Content-Type', 'image/png')
        self.send_header('Content-Range', 'bytes 0-%d/%d' % (size // 2 - 1, size))
        self.send_header('Content-Length', str(size // 2))
        self.end_headers()
        for piece in pieces(content, 0, size // 2):
            self.wfile.write(piece)

    def send_file(self, name, size, options):
        with lock:
            nth = answers[name] = answers.get(name, 0) + 1
        content = name
        if nth >= int(options.get('change', 1 << 30)):
            content = name + ' changed'
        tag = '"%s"' % hashlib.md5(content.encode()).hexdigest()
        tag = {'weak': 'W/' + tag, 'none': None}.get(options.get('tag'), tag)
        start = 0
        asked = self.headers.get('Range')
        condition = self.headers.get('If-Range')
        if asked and 'whole' not in options and ('mute' in options or condition in (None, tag)):
            start = int(asked[len('bytes='):].rstrip('-'))
        is_denied = str(nth) in options.get('deny', '').split(',')
        with lock:
            log.append('%s %s %d' % (name, asked or '-', 403 if is_denied else 206 if start else 200))
        if is_denied:
            self.send_error(403)
            return
        if nth <= int(options.get('part', 0)):
            self.send_half(content, size)
            return
        self.send_response(206 if start else 200)
        self.send_header('Content-Type', 'image/png')
        if start:
            self.send_header('Content-Range', 'bytes %d-%d/%d' % (start, size - 1, size))
        if tag and not (start and 'mute' in options):
            self.send_header('ETag', tag)
        if 'chunked' in options:
            self.send_header('Transfer-Encoding', 'chunked')
        else:
            self.send_header('Content-Length', str(size - start))
        self.end_headers()
        left = int(options['cut']) if 'cut' in options and nth <= int(options.get('cuts', 2)) else size + 1
        try:
            for piece in pieces(content, start, size):
                piece = piece[:left]
                left -= len(piece)
                if 'chunked' in options:
                    piece = b'%x\r\n%s\r\n' % (len(piece), piece)
                self.wfile.write(piece)
                if left == 0:
                    break
                if 'rate' in options:
                    time.sleep(len(piece) / int(options['rate']))
            if 'chunked' in options and left > 0:
                self.wfile.write(b'0\r\n\r\n')
        except OSError:
            self.close_connection = True
        if left == 0:
            self.close_connection = True


folder = os.path.abspath(sys.argv[1])
ThreadingHTTPServer.request_queue_size = 128
server = ThreadingHTTPServer(('127.0.0.1', 0), Files)
server.daemon_threads = True
with open(os.path.join(folder, 'port.new'), 'w') as ready:
    ready.write(str(server.server_port))
os.rename(os.path.join(folder, 'port.new'), os.path.join(folder, 'port'))
server.serve_forever()
