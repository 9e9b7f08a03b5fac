// document.mjs OUT DOCS: writes what was measured into DOCS/performance.md, between its two markers, and the plots beside it.
// Parts that were not measured this time keep their rows, which are in DOCS/performance/rows.json.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';

import { said } from './lib/report.mjs';

const [, , out, docs] = process.argv;
const order = ['drain', 'pickup', 'inflight', 'idle', 'horizon', 'backlog', 'tenant', 'images', 'follow'];
const folder = `${docs}/performance`;
const page = `${docs}/performance.md`;
const begin = '<!-- what make bench DOC=1 writes begins here -->';
const end = '<!-- and ends here -->';

const results = JSON.parse(readFileSync(`${out}/results.json`, 'utf8'));
mkdirSync(folder, { recursive: true });
const kept = existsSync(`${folder}/rows.json`) ? JSON.parse(readFileSync(`${folder}/rows.json`, 'utf8')) : {};
for (const part of results.parts) {
  const rows = results.rows.filter((row) => row.part === part);
  if (rows.length > 0)
    kept[part] = { date: results.machine.date, long: results.long, rows };
  if (existsSync(`${out}/${part}.svg`))
    writeFileSync(`${folder}/${part}.svg`, readFileSync(`${out}/${part}.svg`, 'utf8').replace(/[ \t]+$/gm, ''));
}
writeFileSync(`${folder}/rows.json`, `${JSON.stringify(kept, null, 2)}\n`);

function table() {
  const lines = ['| what | genjob | beside | ratio | goal | | measured |', '|---|---|---|---|---|---|---|'];
  for (const part of order.filter((name) => kept[name]))
    for (const row of kept[part].rows)
      lines.push(`| ${[row.what, row.genjob, row.beside ?? '', row.ratio?.toFixed(2) ?? '', row.goal ?? '', said(row),
        `${kept[part].date.slice(0, 10)}${kept[part].long ? ', long' : ''}`].join(' | ')} |`);
  return lines.join('\n');
}

function machine({ date, cpu, cores, memory, kernel, postgres, libcurl, node, rabbitmq, redis, celery }) {
  return `Last run: ${date}, ${results.long ? '`make bench LONG=1`' : '`make bench`'} (${results.parts.join(', ')}). ${cores} cores (${cpu}), ${memory}, `
    + `${kernel}; ${postgres}, libcurl ${libcurl}, Node.js ${node}, RabbitMQ ${rabbitmq}, Redis ${redis}, Celery ${celery}.`;
}

const text = readFileSync(page, 'utf8');
const from = text.indexOf(begin) + begin.length;
const to = text.indexOf(end);
if (from < begin.length || to < from)
  throw new Error(`${page} has lost its markers`);
writeFileSync(page, `${text.slice(0, from)}\n\n${machine(results.machine)}\n\n${table()}\n\n${text.slice(to)}`);
