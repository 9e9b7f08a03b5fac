#!/usr/bin/python3
"""Lambda, SQS and Step Functions as AWS documents them, for tests: services.py FOLDER [PORT]

Every call must be signed (Signature Version 4) with the keys AKIDEXAMPLE / wJalrXUtnFEMI of the region eu-central-1, within
five minutes of now. The port stands in FOLDER/port.

  POST /_faults    {"faults": [{"status": 400, "type": "ThrottlingException", "message": "..."}]}: the next calls meet these;
                   null: none; {"cut": true}: what was asked for is done, and the connection ends without an answer;
                   {"reply": {"status": 200, "headers": {...}, "body": "...", "times": n}}: nothing is done, and this is the
                   answer, with the body n times
  GET  /_calls     what has arrived and was taken, oldest first: {"service", "action", "body", "headers", "path"}
  GET  /_refusals  the types of the errors that were answered
  POST /_finish    {"name": "...", "status": "SUCCEEDED", "output": ..., "error": "...", "cause": "..."}: an execution ends
  GET  /_executions  those that there are
"""
import datetime
import hashlib
import hmac
import json
import os
import sys
import threading
import urllib.parse
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY, SECRET, REGION = "AKIDEXAMPLE", "wJalrXUtnFEMI", "eu-central-1"
ACCOUNT = "123456789012"
LARGE = 1000000  # bytes; a larger body is not among what has arrived

lock = threading.Lock()
faults, calls, refusals, executions, messages = [], [], [], {}, {}


class Refused(Exception):
    def __init__(self, status, kind, message):
        super().__init__(message)
        self.status, self.kind, self.message = status, kind, message


def quote(text):
    return urllib.parse.quote(text, safe="-_.~")


def check_signature(handler, body, service):
    """The canonical request of https://docs.aws.amazon.com/IAM/latest/UserGuide/create-signed-request.html."""
    denied = 403 if service == "lambda" else 400
    auth = handler.headers.get("Authorization", "")
    if not auth.startswith("AWS4-HMAC-SHA256 "):
        raise Refused(denied, "MissingAuthenticationTokenException", "Missing Authentication Token")
    parts = dict(part.strip().split("=", 1) for part in auth.split(" ", 1)[1].split(","))
    key, date, region, scoped, _ = parts["Credential"].split("/")
    if handler.headers.get("X-Amz-Security-Token") == "of-yesterday":
        raise Refused(denied, "ExpiredTokenException", "The security token included in the request is expired")
    if key != KEY:
        raise Refused(denied, "UnrecognizedClientException", "The security token included in the request is invalid.")
    if region != REGION:
        raise Refused(denied, "InvalidSignatureException", "Credential should be scoped to a valid region. ")
    if scoped != service:
        raise Refused(denied, "InvalidSignatureException", "Credential should be scoped to correct service: '%s'. " % service)
    stamp = handler.headers["X-Amz-Date"]
    signed_at = datetime.datetime.strptime(stamp, "%Y%m%dT%H%M%SZ")
    now = datetime.datetime.utcnow()
    if abs((now - signed_at).total_seconds()) > 300:
        raise Refused(denied, "InvalidSignatureException", "Signature expired: %s is now earlier than %s (%s - 5 min.)" % (
            stamp, (now - datetime.timedelta(minutes=5)).strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%dT%H%M%SZ")))
    url = urllib.parse.urlsplit(handler.path)
    path = "/".join(quote(part) for part in url.path.split("/")) or "/"
    query = "&".join(sorted("%s=%s" % (quote(n), quote(v)) for n, v in urllib.parse.parse_qsl(url.query, True)))
    names = parts["SignedHeaders"].split(";")
    headers = "".join("%s:%s\n" % (n, " ".join(handler.headers[n].split())) for n in names)
    for name in ("host", "x-amz-date", "x-amz-target", "x-amz-invocation-type"):
        if name in handler.headers and name not in names:
            raise Refused(denied, "InvalidSignatureException", "'%s' must be a signed header" % name)
    request = "\n".join([handler.command, path, query, headers, parts["SignedHeaders"], hashlib.sha256(body).hexdigest()])
    scope = "/".join([date, region, service, "aws4_request"])
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(request.encode()).hexdigest()])
    secret = ("AWS4" + SECRET).encode()
    for part in (date, region, service, "aws4_request"):
        secret = hmac.new(secret, part.encode(), hashlib.sha256).digest()
    if not hmac.compare_digest(hmac.new(secret, text.encode(), hashlib.sha256).hexdigest(), parts["Signature"]):
        raise Refused(denied, "InvalidSignatureException", "The request signature we calculated does not match the signature you"
                      " provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")


def invoke(name, headers, body):
    if name == "missing":
        raise Refused(404, "ResourceNotFoundException", "Function not found: arn:aws:lambda:%s:%s:function:missing" % (REGION, ACCOUNT))
    json.loads(body)
    if headers.get("X-Amz-Invocation-Type") == "Event":
        return 202, b"", {}
    if name == "fails":
        return 200, json.dumps({"errorMessage": "no such picture", "errorType": "KeyError"}).encode(), {"X-Amz-Function-Error": "Unhandled"}
    return 200, json.dumps({"given": json.loads(body)}).encode(), {}


def send_message(body):
    queue = body["QueueUrl"].rsplit("/", 1)[1]
    if queue.startswith("missing"):
        raise Refused(400, "QueueDoesNotExist", "The specified queue does not exist.")
    fifo = queue.endswith(".fifo")
    if fifo and "MessageGroupId" not in body:
        raise Refused(400, "MissingParameter", "The request must contain the parameter MessageGroupId.")
    if len(body["MessageBody"]) > 1048576 or body["MessageBody"] == "":
        raise Refused(400, "InvalidParameterValue", "One or more parameters are invalid. Reason: Message must be shorter than 1048576 bytes.")
    kept = messages.setdefault(queue, [])
    for message in kept:
        if fifo and message["body"].get("MessageDeduplicationId") == body.get("MessageDeduplicationId"):
            return message["answer"]
    answer = {"MessageId": str(uuid.uuid4()), "MD5OfMessageBody": hashlib.md5(body["MessageBody"].encode()).hexdigest()}
    if fifo:
        answer["SequenceNumber"] = "%020d" % (len(kept) + 1)
    kept.append({"body": body, "answer": answer})
    return answer


def start_execution(body):
    machine = body["stateMachineArn"]
    if "missing" in machine:
        raise Refused(400, "StateMachineDoesNotExist", "State Machine Does Not Exist: '%s'" % machine)
    name = body["name"]
    known = executions.get(name)
    if known is not None:
        if known["status"] == "RUNNING" and known["input"] == body["input"]:
            return {"executionArn": known["executionArn"], "startDate": known["startDate"]}
        raise Refused(400, "ExecutionAlreadyExists", "Execution Already Exists: '%s'" % known["executionArn"])
    json.loads(body["input"])
    executions[name] = {"executionArn": machine.replace(":stateMachine:", ":execution:") + ":" + name, "stateMachineArn": machine,
                        "name": name, "status": "RUNNING", "startDate": 1.7e9, "input": body["input"]}
    given = json.loads(body["input"])
    if isinstance(given, dict) and "ends" in given:
        executions[name].update(given["ends"])
    return {"executionArn": executions[name]["executionArn"], "startDate": 1.7e9}


def find_execution(body):
    for execution in executions.values():
        if execution["executionArn"] == body["executionArn"]:
            return execution
    raise Refused(400, "ExecutionDoesNotExist", "Execution Does Not Exist: '%s'" % body["executionArn"])


def stop_execution(body):
    execution = find_execution(body)
    if execution["status"] == "RUNNING":
        execution["status"] = "ABORTED"
    return {"stopDate": 1.7e9}


ACTIONS = {
    "AmazonSQS.SendMessage": ("sqs", "1.0", send_message),
    "AWSStepFunctions.StartExecution": ("states", "1.0", start_execution),
    "AWSStepFunctions.DescribeExecution": ("states", "1.0", lambda body: dict(find_execution(body))),
    "AWSStepFunctions.StopExecution": ("states", "1.0", stop_execution),
}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body, headers=None, kind="application/json"):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("x-amzn-RequestId", str(uuid.uuid4()))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def refuse(self, refused, service):
        refusals.append(refused.kind)
        if service == "lambda":
            self.answer(refused.status, json.dumps({"Message": refused.message, "Type": "User"}).encode(), {"x-amzn-ErrorType": refused.kind})
        else:
            prefix = {"sqs": "com.amazonaws.sqs#"}.get(service, "com.amazonaws.swf.service.v2.model#")
            self.answer(refused.status, json.dumps({"__type": prefix + refused.kind, "message": refused.message}).encode(),
                        kind="application/x-amz-json-1.0")

    def do_control(self, body):
        given = json.loads(body) if body else {}
        if self.path == "/_faults":
            faults[:] = given["faults"]
        elif self.path == "/_finish":
            executions[given.pop("name")].update(given)
        found = {"/_calls": calls, "/_refusals": refusals, "/_executions": list(executions.values()), "/_messages": messages}.get(self.path, {})
        self.answer(200, json.dumps(found).encode())

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path.startswith("/_"):
            with lock:
                return self.do_control(body)
        target = self.headers.get("X-Amz-Target")
        service, version, action = ACTIONS.get(target, ("lambda", None, None))
        try:
            check_signature(self, body, service)
            with lock:
                fault = faults.pop(0) if faults else None
            if fault is not None and "reply" in fault:
                reply = fault["reply"]
                return self.answer(reply["status"], reply.get("body", "").encode() * reply.get("times", 1), reply.get("headers"))
            if fault is not None and "status" in fault:
                raise Refused(fault["status"], fault["type"], fault.get("message", ""))
            with lock:
                calls.append({"service": service, "action": target, "path": self.path,
                              "body": json.loads(body) if len(body) <= LARGE else None,
                              "headers": {name.lower(): value for name, value in self.headers.items()}})
                if action is None:
                    name = urllib.parse.unquote(self.path.split("/")[3])
                    status, out, headers = invoke(name, self.headers, body)
                else:
                    if self.headers.get("Content-Type") != "application/x-amz-json-" + version:
                        raise Refused(400, "SerializationException", "")
                    status, out, headers = 200, json.dumps(action(json.loads(body))).encode(), {}
            if fault is not None and fault.get("cut"):
                self.close_connection = True
                return None
            return self.answer(status, out, headers)
        except Refused as refused:
            return self.refuse(refused, service)

    do_GET = do_POST


def main():
    ThreadingHTTPServer.request_queue_size = 128
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2]) if len(sys.argv) > 2 else 0), Handler)
    server.daemon_threads = True
    with open(sys.argv[1] + "/port.new", "w", encoding="ascii") as file:
        file.write("%d\n" % server.server_address[1])
    os.rename(sys.argv[1] + "/port.new", sys.argv[1] + "/port")
    server.serve_forever()


if __name__ == "__main__":
    main()
