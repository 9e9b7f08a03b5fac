// genjob as a contestant: a database with one server, whose jobs go to the stand-in.
import { createDatabase, dropDatabase } from './database.mjs';
import { seconds, until } from './numbers.mjs';
import { path, request, requestSql, url } from './standin.mjs';

export class Genjob {
  name = 'genjob';

  /** A database of this name. Options are those of the foreign server. */
  static async start(database, options = {}) {
    const contestant = new Genjob();
    contestant.database = database;
    contestant.db = await createDatabase(database);
    await contestant.db.run('CREATE EXTENSION genjob');
    await contestant.db.run('CREATE EXTENSION pg_stat_statements');
    await contestant.addServer('bench', options);
    await until('genjob starts', () => contestant.pid(), { within: 60 });
    return contestant;
  }

  async addServer(name, options = {}) {
    const all = { api: 'http', path, auth: 'none', url, max_in_flight: 200, ...options };
    const list = Object.entries(all).map(([option, value]) => `${option} '${value}'`).join(', ');
    await this.db.run(`CREATE SERVER ${name} FOREIGN DATA WRAPPER genjob OPTIONS (${list})`);
  }

  pid() {
    return this.db.value(`SELECT pid FROM genjob.workers WHERE database = '${this.database}' AND pid IS NOT NULL`);
  }

  pause() { return this.db.run("SELECT genjob.pause('bench')"); }
  resume() { return this.db.run("SELECT genjob.resume('bench')"); }

  /** Enqueues jobs, in pieces (columns: further ones, in SQL, of the job's number i), and analyzes the table as autovacuum would in time. */
  async enqueue(n, { latency, columns = {} } = {}) {
    const all = { server: "'bench'", request: requestSql('i', latency), ...columns };
    for (let from = 1; from <= n; from += 100000)
      await this.db.run(`INSERT INTO gen_jobs (${Object.keys(all)}) SELECT ${Object.values(all)} FROM generate_series($1::int, $2::int) i`,
        [from, Math.min(n, from + 99999)]);
    await this.db.run('ANALYZE gen_jobs');
  }

  async enqueueOne(id, committed) {
    await this.db.run("INSERT INTO gen_jobs (server, request) VALUES ('bench', $1)", [JSON.stringify(request(id))]);
    committed();
  }

  /** Jobs that have ended since the server process started, from shared memory. */
  async ended() {
    const [row] = await this.db.rows('SELECT coalesce(sum(succeeded), 0) AS good, coalesce(sum(failed), 0) AS bad FROM genjob.read_servers()');
    if (Number(row.bad) > 0)
      throw new Error(`genjob: ${row.bad} jobs failed: ${await this.db.value('SELECT error FROM gen_jobs WHERE error IS NOT NULL LIMIT 1')}`);
    return Number(row.good);
  }

  /** Lets the paused queue run until n jobs have ended; seconds. */
  async drain(n) {
    const goal = (await this.ended()) + n;
    const began = seconds();
    await this.resume();
    await until('genjob drains its queue', async () => (await this.ended()) >= goal, { every: 10, within: 120 });
    return seconds() - began;
  }

  /** Forgets all jobs. */
  async clear() { await this.db.run('TRUNCATE gen_jobs CASCADE'); }

  async stop() {
    await this.db.end();
    await dropDatabase(this.database);
  }
}
