// Owns one psql process that is asked again and again. Where it connects to is in the environment (PGHOST and so on).
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

export class Psql {
  #process;
  #waiting = [];
  #ended = null;

  /** quiet: what psql complains of is not shown. */
  constructor({ quiet = false } = {}) {
    this.#process = spawn('psql', ['-XAtq', '-v', 'ON_ERROR_STOP=1'], { stdio: ['pipe', 'pipe', quiet ? 'ignore' : 'inherit'] });
    createInterface({ input: this.#process.stdout }).on('line', (line) => this.#waiting.shift().resolve(JSON.parse(line)));
    this.#process.stdin.on('error', () => {});
    this.#process.on('error', (error) => this.#end(`psql does not run: ${error.message}`));
    this.#process.on('exit', () => this.#end('psql has ended; is the database still there?'));
  }

  /** The rows of a query without semicolon, as objects. */
  rows(query) {
    return this.#ask(`SELECT coalesce(jsonb_agg(to_jsonb(t)), '[]') FROM (${query}) t`);
  }

  /** The rows that a statement with RETURNING gives. */
  change(statement) {
    return this.#ask(`WITH t AS (${statement}) SELECT coalesce(jsonb_agg(to_jsonb(t)), '[]') FROM t`);
  }

  #ask(statement) {
    return new Promise((resolve, reject) => {
      if (this.#ended)
        throw this.#ended;
      this.#waiting.push({ resolve, reject });
      this.#process.stdin.write(`${statement};\n`);
    });
  }

  close() { this.#process.stdin.end(); }

  #end(message) {
    this.#ended = new Error(message);
    for (const { reject } of this.#waiting.splice(0))
      reject(this.#ended);
  }
}
