// The table of results: rows as they come, and what is kept of them.
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';

const rows = [];
const raw = {};
let part;

/** What the following rows belong to. */
export function beginPart(name) {
  part = name;
}

/**
 * A row of the table: what was measured, genjob's figure, the peer's or the limit's, genjob's share of it, the goal, and
 * whether it was met (null: has none).
 */
export function addRow(row) {
  rows.push({ part, ...row });
}

/** Figures behind the rows of a part. */
export function keep(name, figures) {
  raw[name] = { ...raw[name], ...figures };
}

export const said = ({ met }) => (met ? 'met' : met === false ? 'MISSED' : '');

function machine() {
  const first = (...command) => {
    try { return execFileSync(command[0], command.slice(1), { encoding: 'utf8', stdio: 'pipe' }).split('\n')[0]; } catch { return undefined; }
  };
  return {
    date: new Date().toISOString().slice(0, 16).replace('T', ' ') + ' UTC',
    cores: cpus().length,
    cpu: cpus()[0]?.model ?? 'unknown',
    memory: `${Math.round(totalmem() / 2 ** 30)} GB`,
    kernel: first('uname', '-sr'),
    postgres: first('postgres', '--version'),
    libcurl: first('pkg-config', '--modversion', 'libcurl'),
    node: process.version,
    rabbitmq: first('dpkg-query', '-W', '-f', '${Version}', 'rabbitmq-server'),
    redis: first('dpkg-query', '-W', '-f', '${Version}', 'redis-server'),
    celery: first('dpkg-query', '-W', '-f', '${Version}', 'python3-celery'),
  };
}

export function writeResults(folder, parts) {
  writeFileSync(`${folder}/results.json`,
    `${JSON.stringify({ machine: machine(), long: Boolean(process.env.LONG), parts, rows, raw }, null, 2)}\n`);
}

export function printTable() {
  const head = { what: 'what', genjob: 'genjob', beside: 'beside', ratio: 'ratio', goal: 'goal', met: '' };
  const lines = [head, ...rows.map((row) => ({ ...row, ratio: row.ratio?.toFixed(2) ?? '', beside: row.beside ?? '', goal: row.goal ?? '', met: said(row) }))];
  const columns = Object.keys(head);
  const widths = columns.map((column) => Math.max(...lines.map((line) => line[column].length)));
  console.log();
  for (const line of lines)
    console.log(columns.map((column, i) => line[column].padEnd(widths[i])).join('  ').trimEnd());
}
