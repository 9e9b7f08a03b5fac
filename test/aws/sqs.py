#!/usr/bin/python3
"""
sqs.py FOLDER

A queue that speaks as Amazon SQS does, for tests: receiving and deleting by both protocols that botocore has had (query
and JSON). PUT / adds a message, GET / gives what is left, as JSON. A message is given again at once until it is deleted,
each time with another receipt. FOLDER/port has the port when it answers.
"""
import ctypes
import hashlib
import json
import os
import signal
import sys
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from xml.sax.saxutils import escape

folder = sys.argv[1]
ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
messages = {}


def receive():
    given = []
    for name, message in list(messages.items())[:10]:
        message['given'] += 1
        given.append({'MessageId': name, 'ReceiptHandle': f"{name}/{message['given']}", 'Body': message['body'],
                      'MD5OfBody': hashlib.md5(message['body'].encode()).hexdigest()})
    return given


def delete(receipt):
    messages.pop(receipt.split('/')[0], None)


class Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def answer(self, content_type, text):
        body = text.encode()
        self.send_response(200)
        self.send_header('Content-Type', content_type)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_PUT(self):
        body = self.rfile.read(int(self.headers['Content-Length'])).decode()
        messages[hashlib.sha256(body.encode()).hexdigest()] = {'body': body, 'given': 0}
        self.answer('text/plain', '')

    def do_GET(self):
        self.answer('application/json', json.dumps(messages))

    def do_POST(self):
        text = self.rfile.read(int(self.headers['Content-Length'])).decode()
        target = self.headers.get('X-Amz-Target')
        if target is not None:
            request = json.loads(text)
            if target.endswith('ReceiveMessage'):
                return self.answer('application/x-amz-json-1.0', json.dumps({'Messages': receive()}))
            delete(request['ReceiptHandle'])
            return self.answer('application/x-amz-json-1.0', '{}')
        request = urllib.parse.parse_qs(text)
        action = request['Action'][0]
        result = ''
        if action == 'ReceiveMessage':
            result = ''.join('<Message>' + ''.join(f'<{key}>{escape(value)}</{key}>' for key, value in message.items())
                             + '</Message>' for message in receive())
        else:
            delete(request['ReceiptHandle'][0])
        self.answer('text/xml', f'<{action}Response><{action}Result>{result}</{action}Result>'
                                f'<ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></{action}Response>')

    def log_message(self, *args):
        pass


ThreadingHTTPServer.request_queue_size = 128
server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
with open(os.path.join(folder, 'port.new'), 'w') as file:
    file.write(f'{server.server_address[1]}\n')
os.rename(os.path.join(folder, 'port.new'), os.path.join(folder, 'port'))
server.serve_forever()
