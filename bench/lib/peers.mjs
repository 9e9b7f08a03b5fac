// The peers as contestants. All of them do the same work: take a job, POST it to the stand-in, commit the
// answer to the table `results`, acknowledge. Their workers are in ../peers.
import { openSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

import amqp from 'amqplib';
import { makeWorkerUtils } from 'graphile-worker';

import { createDatabase, dropDatabase } from './database.mjs';
import { seconds, sleep, until } from './numbers.mjs';
import { endChild, forkKept, runProgram, spawnKept } from './processes.mjs';
import { request, requestSql } from './standin.mjs';

const chosen = (process.env.PEERS || 'rabbitmq graphile celery').split(' ');
export const isChosen = (peer) => chosen.includes(peer);
const program = (name) => fileURLToPath(new URL(`../peers/${name}`, import.meta.url));

/** What peers have in common: a database with a table of answers. */
class Peer {
  async open(database) {
    this.database = database;
    this.db = await createDatabase(database);
    await this.db.run(`CREATE TABLE results
      (job_id bigint PRIMARY KEY, result jsonb NOT NULL, finished_at timestamptz NOT NULL DEFAULT clock_timestamp())`);
    await this.db.run('CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY)');
  }

  saved() { return this.db.value('SELECT count(*) FROM results'); }
  async clear() { await this.db.run('TRUNCATE results'); }

  async close() {
    await this.db.end();
    await dropDatabase(this.database);
  }
}

/** A peer whose worker is a Node process of ours. */
class NodePeer extends Peer {
  async launch(script, { url = process.env.BENCH_STANDIN, ...settings }) {
    this.child = forkKept(program(script),
      { env: { ...process.env, BENCH_STANDIN: url, PEER: JSON.stringify({ database: this.database, ...settings }) } });
    this.child.on('message', (message) => {
      if (message.error)
        console.error(`${this.name}: ${message.error}`);
    });
    await this.told('ready');
  }

  get pid() { return this.child.pid; }

  told(word) {
    return new Promise((resolve, reject) => {
      const ended = () => reject(new Error(`${this.name}: its worker has ended`));
      const heard = (message) => {
        if (!message[word])
          return;
        this.child.off('exit', ended).off('message', heard);
        resolve();
      };
      this.child.on('message', heard).once('exit', ended);
    });
  }

  /** Has the worker take jobs, until rest(); resolves when n are done. */
  begin(n = 1e9) {
    const done = this.told('done');
    done.catch(() => {});
    this.child.send({ run: n });
    return done;
  }

  async rest() {
    const stopped = this.told('stopped');
    this.child.send({ stop: true });
    await stopped;
  }

  /** Lets the worker do the n jobs that are queued; seconds. */
  async drain(n) {
    const began = seconds();
    await this.begin(n);
    const took = seconds() - began;
    await this.rest();
    const saved = await this.saved();
    if (saved !== n)
      throw new Error(`${this.name}: ${saved} answers of ${n} jobs`);
    return took;
  }

  async stop() {
    await endChild(this.child, 'SIGKILL');
    await this.close();
  }
}

export class Rabbitmq extends NodePeer {
  name = 'RabbitMQ + Node';

  static async start(database, { inFlight = 200, batched = true, ...more } = {}) {
    const peer = new Rabbitmq();
    await peer.open(database);
    peer.connection = await amqp.connect(process.env.BENCH_RABBITMQ, { noDelay: true });
    peer.channel = await peer.connection.createConfirmChannel();
    await peer.channel.assertQueue(database, { durable: true });
    await peer.channel.purgeQueue(database);
    await peer.launch('rabbitmq.mjs', { inFlight, batched, ...more });
    return peer;
  }

  /** Persistent. */
  publish(id, latency) {
    this.channel.sendToQueue(this.database, Buffer.from(JSON.stringify(request(id, latency))), { persistent: true, messageId: String(id) });
  }

  /** All of them confirmed by the broker. */
  async enqueue(n, { latency } = {}) {
    for (let id = 1; id <= n; id++)
      this.publish(id, latency);
    await this.channel.waitForConfirms();
  }

  /** One job, after its application has committed what it belongs to. */
  async enqueueOne(id, committed) {
    await this.db.run('INSERT INTO orders DEFAULT VALUES');
    committed();
    this.publish(id);
  }

  async stop() {
    await super.stop();
    await this.channel.deleteQueue(this.database);
    await this.connection.close();
  }
}

export class Graphile extends NodePeer {
  static async start(database, { inFlight = 200, batched = true, connections = 12, ...more } = {}) {
    const peer = new Graphile();
    peer.name = batched ? 'graphile-worker, batched' : 'graphile-worker';
    await peer.open(database);
    const utils = await makeWorkerUtils({ connectionString: `postgres:///${database}?host=${encodeURIComponent(process.env.PGHOST)}&user=bench` });
    await utils.migrate();
    await utils.release();
    await peer.launch('graphile.mjs', { inFlight, batched, connections, ...more });
    return peer;
  }

  async enqueue(n, { latency } = {}) {
    await this.db.run(`SELECT count(*) FROM graphile_worker.add_jobs(ARRAY(
      SELECT ROW('generate', json_build_object('id', i, 'request', ${requestSql('i', latency)}),
        NULL, NULL, NULL, NULL, NULL, NULL)::graphile_worker.job_spec
      FROM generate_series(1, $1::int) i))`, [n]);
    await this.db.run('ANALYZE');
  }

  async enqueueOne(id, committed) {
    await this.db.run("SELECT graphile_worker.add_job('generate', $1::json)", [JSON.stringify({ id, request: request(id) })]);
    committed();
  }
}

export class Celery extends Peer {
  name = 'Celery + Redis';

  static async start(database, { processes = 8 } = {}) {
    const peer = new Celery();
    await peer.open(database);
    peer.env = { ...process.env, PEER_DATABASE: database, PGDATABASE: database, PYTHONDONTWRITEBYTECODE: '1' };
    peer.child = spawnKept('/usr/bin/python3', ['-m', 'celery', '-A', 'celery_tasks', 'worker', '--concurrency', String(processes),
      '--without-gossip', '--without-mingle', '--without-heartbeat', '-Q', 'nothing', '-l', 'ERROR'],
    { cwd: program('.'), env: peer.env, stdio: ['ignore', 'ignore', openSync('celery.log', 'a')] });
    await peer.enqueue(processes * 20);
    await peer.drain(processes * 20);
    await peer.clear();
    return peer;
  }

  get pid() { return this.child.pid; }

  ask(...args) { return runProgram('/usr/bin/python3', ['celery_tasks.py', ...args.map(String)], { cwd: program('.'), env: this.env }); }
  begin() { return this.ask('begin'); }
  enqueue(n) { return this.ask(1, n); }

  /** Lets the worker do the n jobs that are queued; seconds, from the first answer to the last. */
  async drain(n) {
    await until('Celery starts', async () => {
      await this.begin();
      await sleep(200);
      return (await this.saved()) > 0;
    }, { within: 60 });
    await until('Celery drains its queue', async () => (await this.saved()) >= n, { every: 100 });
    await this.ask('rest');
    return this.db.value('SELECT extract(epoch FROM max(finished_at) - min(finished_at))::float8 FROM results');
  }

  async stop() {
    await endChild(this.child, 'SIGTERM');
    await this.close();
  }
}
