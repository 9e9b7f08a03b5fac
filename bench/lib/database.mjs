// Owns the connections to the throw-away PostgreSQL. Where it is stands in the environment (PGHOST, PGUSER).
import pg from 'pg';

pg.types.setTypeParser(20, Number); // bigint: no count here comes near 2^53

/** A connection of one's own. */
export async function connect(database) {
  const client = new pg.Client({ database });
  await client.connect();
  return {
    client,
    rows: async (sql, values) => (await client.query(sql, values)).rows,
    value: async (sql, values) => {
      const { rows, fields } = await client.query(sql, values);
      return rows[0]?.[fields[0].name];
    },
    run: async (sql, values) => (await client.query(sql, values)).rowCount,
    end: () => client.end(),
  };
}

/** Makes an empty database, in place of one that was there, and connects to it. */
export async function createDatabase(name) {
  const postgres = await connect('postgres');
  await postgres.run(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`);
  await postgres.run(`CREATE DATABASE ${name}`);
  await postgres.end();
  return connect(name);
}

export async function dropDatabase(name) {
  const postgres = await connect('postgres');
  await postgres.run(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`);
  await postgres.end();
}

/**
 * Before a turn: no checkpoint is due, and no other contestant's dirty page is left to be written. Before the jobs are
 * enqueued, else each page would go to the WAL whole when it is first changed.
 */
export async function settle() {
  const postgres = await connect('postgres');
  await postgres.run('CHECKPOINT');
  await postgres.end();
}

/** Sets settings of the whole server, an object; null resets. */
export async function configure(settings) {
  const postgres = await connect('postgres');
  for (const [name, value] of Object.entries(settings))
    await postgres.run(value === null ? `ALTER SYSTEM RESET ${name}` : `ALTER SYSTEM SET ${name} = '${value}'`);
  await postgres.run('SELECT pg_reload_conf()');
  await postgres.end();
}
