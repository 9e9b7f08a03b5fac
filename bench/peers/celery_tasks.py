"""A worker of Celery with Redis: a task is acknowledged after its answer is committed.

    celery -A celery_tasks worker        runs tasks
    python3 celery_tasks.py FIRST N      enqueues N of them
    python3 celery_tasks.py begin        has the workers take them
    python3 celery_tasks.py rest         has them stop taking
"""
import http.client
import json
import os
import sys
import threading
from urllib.parse import urlsplit

import psycopg2
from celery import Celery

DATABASE = os.environ["PEER_DATABASE"]
SERVER = urlsplit(os.environ["BENCH_STANDIN"])

app = Celery("bench", broker=os.environ["BENCH_REDIS"])
app.conf.update(
    task_ignore_result=True,
    task_acks_late=True,
    task_default_queue=DATABASE,
    worker_prefetch_multiplier=16,
    worker_send_task_events=False,
    broker_connection_retry=True,
)
mine = threading.local()


def connections():
    """One connection to the server and one to PostgreSQL, kept by each process."""
    if not hasattr(mine, "http"):
        mine.http = http.client.HTTPConnection(SERVER.hostname, SERVER.port)
        mine.database = psycopg2.connect(dbname=DATABASE)
        mine.database.autocommit = True
        mine.cursor = mine.database.cursor()
    return mine


@app.task(name="generate")
def generate(job, request):
    kept = connections()
    kept.http.request("POST", "/v1/chat/completions", json.dumps(request), {"Content-Type": "application/json"})
    answer = kept.http.getresponse()
    body = answer.read().decode()
    if answer.status != 200:
        raise RuntimeError(f"status {answer.status}: {body}")
    kept.cursor.execute("INSERT INTO results (job_id, result) VALUES (%s, %s)", (job, body))


def enqueue(first, n):
    with app.producer_pool.acquire(block=True) as producer:
        for job in range(first, first + n):
            request = {"model": "bench", "messages": [{"role": "user", "content": f"job {job}"}]}
            generate.apply_async((job, request), producer=producer)


if __name__ == "__main__":
    if sys.argv[1] == "begin":
        app.control.add_consumer(DATABASE, reply=True)
    elif sys.argv[1] == "rest":
        app.control.cancel_consumer(DATABASE, reply=True)
    else:
        enqueue(int(sys.argv[1]), int(sys.argv[2]))
