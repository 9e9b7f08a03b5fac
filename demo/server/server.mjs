#!/usr/bin/env node
// The demo's GenAI server: flags, start and end. README.md says what it speaks.
import { renameSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { createHttpServer } from './http.mjs';
import { Network } from './network.mjs';
import { Studio } from './studio.mjs';

const USAGE = `usage: node server.mjs [--port N] [--port-file FILE] [--api-key KEY] [--tile N] [--die-with-parent]

  --port N           listens on 127.0.0.1:N; 0 (the default) takes a free port
  --port-file FILE   writes the port there once pictures can be made
  --api-key KEY      refuses who does not bring this key; also read from GENAI_API_KEY
  --tile N           side of a tile in pixels, 32 to 512 (default 96): smaller shows more progress, larger is faster
  --die-with-parent  ends when its standard input closes`;

function readFlags() {
  try {
    const { values } = parseArgs({
      options: {
        'port': { type: 'string', default: '0' },
        'port-file': { type: 'string' },
        'api-key': { type: 'string', default: process.env.GENAI_API_KEY },
        'tile': { type: 'string', default: '96' },
        'die-with-parent': { type: 'boolean', default: false },
        'help': { type: 'boolean', default: false },
      },
    });
    if (values.help) {
      console.log(USAGE);
      process.exit(0);
    }
    return { ...values, port: wholeNumber('--port', values.port, 0, 65535), tile: wholeNumber('--tile', values.tile, 32, 512) };
  } catch (error) {
    console.error(`${error.message}\n\n${USAGE}`);
    process.exit(2);
  }
}

function wholeNumber(flag, text, least, most) {
  const value = Number(text);
  if (!Number.isInteger(value) || value < least || value > most)
    throw new Error(`${flag} ${text}: must be a whole number from ${least} to ${most}`);
  return value;
}

const flags = readFlags();
for (const name of ['SIGTERM', 'SIGINT'])
  process.on(name, () => process.exit(0));
if (flags['die-with-parent'])
  process.stdin.on('end', () => process.exit(0)).on('error', () => process.exit(0)).resume();

const network = await Network.open();
const studio = new Studio(network, flags.tile);
const server = createHttpServer({ network, studio, apiKey: flags['api-key'], log: (line) => console.error(line) });
server.on('error', (error) => {
  console.error(`cannot listen on 127.0.0.1:${flags.port}: ${error.message}`);
  process.exit(1);
});
server.listen(flags.port, '127.0.0.1', () => {
  const { port } = server.address();
  if (flags['port-file']) {
    writeFileSync(`${flags['port-file']}.new`, `${port}\n`);
    renameSync(`${flags['port-file']}.new`, flags['port-file']);
  }
  console.error(`listening on http://127.0.0.1:${port}`);
});
