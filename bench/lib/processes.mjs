// Other processes: what the kernel knows of them, and those that this one started.
import { execFile, fork, spawn } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { promisify } from 'node:util';

const started = new Set();
process.on('exit', () => started.forEach((child) => child.kill('SIGKILL')));
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'])
  process.on(signal, () => process.exit(1));

function keep(child) {
  started.add(child);
  child.once('exit', () => started.delete(child));
  return child;
}

export const spawnKept = (...args) => keep(spawn(...args));
export const forkKept = (...args) => keep(fork(...args));
export const runProgram = promisify(execFile);

/** Ends a child and waits until it has ended. */
export function endChild(child, signal = 'SIGTERM') {
  return new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null)
      return resolve();
    child.once('exit', resolve);
    child.kill(signal);
  });
}

const status = (pid, name) => {
  const found = readFileSync(`/proc/${pid}/status`, 'utf8').match(new RegExp(`^${name}:\\s+(\\d+)`, 'm'));
  return found ? Number(found[1]) : 0;
};

/** How often a process has gone to sleep by itself, all its threads together: as often it was woken. */
export function wakeups(pid) {
  return readdirSync(`/proc/${pid}/task`).reduce((n, task) => n + status(`${pid}/task/${task}`, 'voluntary_ctxt_switches'), 0);
}

/** Memory that is the process's own, in bytes: not shared memory, not files. */
export const ownMemory = (pid) => status(pid, 'RssAnon') * 1024;

/** CPU that a process has used, in seconds. */
export function cpuSeconds(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

/** A process and all that descend from it. */
export function family(pid) {
  const parents = readdirSync('/proc').filter((name) => /^\d+$/.test(name)).map((name) => {
    try { return [Number(name), status(name, 'PPid')]; } catch { return [0, 0]; }
  });
  const found = [pid];
  for (const member of found)
    found.push(...parents.filter(([, parent]) => parent === member).map(([child]) => child));
  return found;
}
