// The limits as contestants: what nothing that is built on them can pass.
import { readFile } from 'node:fs/promises';

import { createDatabase, dropDatabase } from './database.mjs';
import { seconds } from './numbers.mjs';
import { runProgram } from './processes.mjs';
import { path, request, requestSql, url } from './standin.mjs';

/** PostgreSQL alone: two batched updates a row. */
export class SqlLimit {
  name = 'SQL alone';

  static async start(database) {
    const limit = new SqlLimit();
    limit.database = database;
    limit.db = await createDatabase(database);
    await limit.db.run('CREATE EXTENSION genjob');
    await limit.db.run(await readFile(new URL('../limits/sql.sql', import.meta.url), 'utf8'));
    return limit;
  }

  async enqueue(n) {
    await this.db.run(`INSERT INTO limit_jobs (id, server, request) SELECT i, 'bench', ${requestSql('i')} FROM generate_series(1, $1::int) i`, [n]);
    await this.db.run('ANALYZE limit_jobs');
  }

  async drain(n) {
    const began = seconds();
    await this.db.run(`CALL limit_run(${n})`);
    const took = seconds() - began;
    if (Number(await this.db.value("SELECT count(*) FROM limit_jobs WHERE state = 'succeeded'")) !== n)
      throw new Error('the limit of SQL has not done its rows');
    return took;
  }

  async clear() { await this.db.run('TRUNCATE limit_jobs'); }

  async stop() {
    await this.db.end();
    await dropDatabase(this.database);
  }
}

/** libcurl alone: as many calls, from a program that does nothing else. */
export class CurlLimit {
  name = 'libcurl alone';
  async enqueue() {}
  async clear() {}
  async stop() {}

  async drain(n, atATime = 200) {
    const { stdout } = await runProgram('./curl_limit', [url + path, JSON.stringify(request(1)), String(n), String(atATime)]);
    return n / Number(stdout);
  }
}
