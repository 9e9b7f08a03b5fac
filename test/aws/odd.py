#!/usr/bin/python3
"""
odd.py FOLDER

A server whose answers hardly any server gives, for tests. The first word of the path says which, and the next what it
needs. FOLDER/port has its port when it answers. GET /_log gives what has been asked, a line for each.
"""
import ctypes
import os
import signal
import socket
import sys
import threading
import time

folder = sys.argv[1]
ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
PICTURE = b'\x89PNG\r\n\x1a\n' + b'p' * 40
log = []
port = 0


def read_request(reader):
    """Returns the method and the path; None at the end."""
    line = reader.readline().decode('latin-1')
    headers = {}
    while True:
        header = reader.readline().decode('latin-1')
        if header in ('', '\r\n'):
            break
        name, _, value = header.partition(':')
        headers[name.lower()] = value.strip()
    reader.read(int(headers.get('content-length', 0)))
    return line.split(' ')[:2] if line else None


def answer(client, status, body=b'', content_type='application/json', headers=''):
    head = 'HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n%s\r\n' % (status, content_type, len(body), headers)
    client.sendall(head.encode('latin-1') + body)


def picture(client, *_):
    answer(client, '200 OK', PICTURE, 'image/png')


def link(client, _, words, __):
    """Names a picture to download, or what the rest of the path says, after some seconds."""
    time.sleep(float(words[0]))
    target = '/'.join(words[1:]) or 'picture'
    answer(client, '200 OK', b'{"data": ["http://127.0.0.1:%d/%s"]}' % (port, target.encode()))


def progress(client, _, words, __):
    """Says how far it is, after some seconds."""
    time.sleep(float(words[0]))
    answer(client, '200 OK', b'{"progress": 0.5}')


def dense(client, *_):
    """A bucket that refuses with a list of numbers, as many as are read of an answer."""
    answer(client, '403 Forbidden', b'[' + b'1,' * 1900000 + b'1]')


def long(client, *_):
    """A bucket that refuses with one text of 100 MB."""
    answer(client, '500 Internal Server Error', b'{"message": "' + b'no ' * 33000000 + b'"}')


def forgetful(client, method, words, query):
    """A bucket that begins every upload, and knows none."""
    if method == 'POST' and query.startswith('uploads'):
        answer(client, '200 OK', b'<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>')
    else:
        answer(client, '404 Not Found', b'<?xml version="1.0"?><Error><Code>NoSuchUpload</Code></Error>')


def switching(client, *_):
    """Goes over to another protocol, which nobody asked for."""
    client.sendall(b'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n' + b'\x81\x01a' * 1000)
    client.shutdown(socket.SHUT_RDWR)


def cut(client, *_):
    """Nine of a hundred megabytes. Nothing says that they are always the same."""
    client.sendall(b'HTTP/1.1 200 OK\r\nContent-Type: application/x-thing\r\nContent-Length: 100000000\r\n\r\n' + b'x' * 9000000)
    client.shutdown(socket.SHUT_RDWR)


def named(client, *_):
    answer(client, '200 OK', b'{"id": "a name"}')


def full(client, method, words, __):
    """An answer that takes long to read, with so many bytes. The next word says how it is made."""
    pieces = {'objects': (b'[', b'{},', b'{}]'), 'ampersands': (b'{"error": "', b'&', b'"}'),
              'tags': (b'<Error>', b'<a>x', b'')}
    begin, piece, end = pieces[words[1]]
    body = begin + piece * (int(words[0]) // len(piece)) + end
    if method == 'HEAD':
        answer(client, '200 OK')
    else:
        answer(client, '200 OK', body, 'application/xml' if words[1] == 'tags' else 'application/json')


def raw(client, _, words, __):
    """What the next word says in hexadecimal, and then the end."""
    client.sendall(bytes.fromhex(words[0]))
    client.shutdown(socket.SHUT_RDWR)


def large(client, _, words, __):
    """A file of so many bytes."""
    answer(client, '200 OK', b'x' * int(words[0]), 'application/x-thing')


KINDS = {kind.__name__: kind for kind in (picture, link, progress, dense, long, forgetful, switching, cut, named, full, raw,
                                       large)}


def serve(client):
    reader = client.makefile('rb')
    try:
        while True:
            request = read_request(reader)
            if request is None:
                break
            path, _, query = request[1].partition('?')
            words = path.strip('/').split('/')
            if words[0] == '_log':
                answer(client, '200 OK', '\n'.join(log).encode())
                continue
            log.append(' '.join(request))
            KINDS[words[0]](client, request[0], words[1:], query)
    except OSError:
        pass
    finally:
        client.close()


listener = socket.create_server(('127.0.0.1', 0), backlog=128)
port = listener.getsockname()[1]
with open(folder + '/port.new', 'w') as file:
    file.write('%d\n' % port)
os.rename(folder + '/port.new', folder + '/port')
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
