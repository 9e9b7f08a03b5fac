// How fast a queue of 10,000 jobs is drained when the server answers at once, in turns with the peers and the limits.
import { settle } from '../lib/database.mjs';
import { Genjob } from '../lib/genjob.mjs';
import { CurlLimit, SqlLimit } from '../lib/limits.mjs';
import { figure, median, medianRatio, perSecond } from '../lib/numbers.mjs';
import { Celery, Graphile, Rabbitmq, isChosen } from '../lib/peers.mjs';
import { addRow, keep } from '../lib/report.mjs';
import { reset } from '../lib/standin.mjs';

export const title = '10,000 queued jobs, the server answers at once';

const jobs = 10000;
const turns = process.env.LONG ? 9 : 5;
const what = 'drain of 10,000 queued jobs';
const answerBytes = 290; // of the stand-in, to these requests

async function start() {
  const contestants = [
    { of: await Genjob.start('drain_genjob', { paused: 'on' }), jobs },
    { of: await SqlLimit.start('drain_sql'), jobs },
    { of: new CurlLimit(), jobs: 2 * jobs },
  ];
  if (isChosen('rabbitmq'))
    contestants.push({ of: await Rabbitmq.start('drain_rabbitmq'), jobs });
  if (isChosen('graphile')) {
    contestants.push({ of: await Graphile.start('drain_graphile'), jobs });
    contestants.push({ of: await Graphile.start('drain_graphile_plain', { batched: false, inFlight: 24, connections: 30 }), jobs });
  }
  if (isChosen('celery'))
    contestants.push({ of: await Celery.start('drain_celery'), jobs: 2000 });
  return contestants.map((contestant) => ({ ...contestant, rates: [], wal: [] }));
}

const position = (db) => db.value("SELECT pg_current_wal_insert_lsn() - '0/0'");

/** One turn of one contestant. */
async function turn({ of, jobs: n, rates, wal }) {
  await of.clear();
  await reset();
  await settle();
  await of.enqueue(n);
  const before = of.db && (await position(of.db));
  const took = await of.drain(n);
  rates.push(n / took);
  if (of.db)
    wal.push(((await position(of.db)) - before) / n);
  if (of instanceof Genjob)
    await of.pause();
  await of.db?.run('VACUUM'); // else autovacuum would, in somebody else's turn
}

/** Caches and compilers are warm in the rounds that count. */
async function warmUp(contestants) {
  for (const { of } of contestants)
    await turn({ of, jobs: 1000, rates: [], wal: [] });
}

export async function measure() {
  const contestants = await start();
  await warmUp(contestants);
  for (let round = 0; round < turns; round++)
    for (const contestant of contestants)
      await turn(contestant);
  for (const { of } of contestants)
    await of.stop();
  tell(contestants);
}

function tell(contestants) {
  const rate = Object.fromEntries(contestants.map(({ of, rates }) => [of.name, median(rates)]));
  const wal = Object.fromEntries(contestants.map((contestant) => [contestant.of.name, median([...contestant.wal, NaN].filter((x) => !Number.isNaN(x)))]));
  const rounds = Object.fromEntries(contestants.map(({ of, rates }) => [of.name, rates]));
  keep('drain', { rates: rounds, wal: Object.fromEntries(contestants.map(({ of, wal: list }) => [of.name, list])) });
  const { genjob, 'SQL alone': sql, 'libcurl alone': curl, ...peers } = rounds;
  for (const [name, peer] of Object.entries(peers)) {
    const goal = name.startsWith('RabbitMQ') ? 1.3 : null;
    const ratio = medianRatio(genjob, peer);
    addRow({ what, genjob: perSecond(rate.genjob), beside: `${name}: ${perSecond(rate[name])}`, ratio, goal: goal && `≥ ${goal}`, met: goal && ratio >= goal });
  }
  const limits = sql.map((value, round) => 1 / (1 / value + 1 / curl[round]));
  const ratio = medianRatio(genjob, limits);
  addRow({ what, genjob: perSecond(rate.genjob), ratio, goal: '≥ 0.6', met: ratio >= 0.6,
    beside: `SQL alone (${figure(median(sql))}) and then libcurl alone (${figure(median(curl))}): ${perSecond(median(limits))}` });
  addRow({ what: `WAL of a job from claim to answer, which has ${answerBytes} bytes`, genjob: `${figure(wal.genjob / 1000)} kB`, ratio: wal.genjob / wal['SQL alone'],
    beside: `SQL alone: ${figure(wal['SQL alone'] / 1000)} kB`, goal: '≤ 1.2 kB', met: wal.genjob <= 1200 });
}
