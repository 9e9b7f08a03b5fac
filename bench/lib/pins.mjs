// What keeps VACUUM from removing dead rows, in the ways in which it happens to people. Each is a function of a database that
// resolves to another one, which ends it.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

import { connect } from './database.mjs';
import { until } from './numbers.mjs';
import { endChild, spawnKept } from './processes.mjs';

const program = promisify(execFile);

/** A transaction with an xid that somebody has left open. */
async function transaction(database) {
  const session = await connect(database);
  await session.run('BEGIN');
  await session.run('SELECT pg_current_xact_id()');
  return () => session.end();
}

/** A transaction that was prepared and forgotten. */
async function prepared(database) {
  const session = await connect(database);
  await session.run('BEGIN');
  await session.run('SELECT pg_current_xact_id()');
  await session.run("PREPARE TRANSACTION 'forgotten'");
  return async () => {
    await session.run("ROLLBACK PREPARED 'forgotten'");
    await session.end();
  };
}

/** The replication slot of a standby with hot_standby_feedback that has gone away. */
async function slot(database) {
  const session = await connect(database);
  await program('pg_basebackup', ['-D', 'standby', '-R', '-C', '-S', 'gone', '-c', 'fast']);
  const standby = spawnKept('postgres', ['-D', 'standby', '-p', '5433', '-c', 'hot_standby_feedback=on', '-c', 'wal_receiver_status_interval=1s'],
    { stdio: 'ignore' });
  await until('the standby says what it sees', () => session.value('SELECT xmin IS NOT NULL FROM pg_replication_slots'), { within: 60, every: 200 });
  await endChild(standby, 'SIGINT');
  return async () => {
    await session.run("SELECT pg_drop_replication_slot('gone')");
    await session.end();
    await program('rm', ['-rf', 'standby']);
  };
}

const nothing = async () => async () => {};

export const pins = { transaction, slot, prepared, nothing };
